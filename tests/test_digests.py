"""The hashes that vouch for stored bytes: files, their chunks, and folders. Lesson L11."""

from __future__ import annotations

import hashlib
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore import digests
from asyncstore.digests import CHUNK_SIZE, Digest, Hasher, chunk_hash, combined_hash, digest_of
from asyncstore.record import FileEntry, content_hash, file_entry

thorough = settings(max_examples=2_000, deadline=None)


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _tree(leaves: list[bytes]) -> bytes:
    """The hash of a chunk from its leaves, from the top: the left half is a power of two."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return _sha(_tree(leaves[:left]) + _tree(leaves[left:]))


def _expected(data: bytes, leaf: int, most: int) -> Digest:
    """The same digest from the rules alone, with the whole file at hand."""
    if len(data) <= leaf:
        return Digest(len(data), _sha(data).hex())
    size = leaf
    while len(data) // size >= most:
        size *= 2
    chunks = []
    for at in range(0, len(data), size):
        chunk = data[at : at + size]
        chunks.append(_tree([_sha(chunk[i : i + leaf]) for i in range(0, len(chunk), leaf)]))
    return Digest(
        len(data), _sha(b"".join(chunks)).hex(), size, tuple(chunk.hex() for chunk in chunks)
    )


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 bytes and at most 8 of them, so that files with many doublings are cheap."""
    monkeypatch.setattr(digests, "CHUNK_SIZE", 4)
    monkeypatch.setattr(digests, "MAX_CHUNKS", 8)


BYTES = b"".join(_sha(bytes([i])) for i in range(64))


@pytest.mark.usefixtures("small_chunks")
def test_every_length_up_to_hundreds_of_chunks() -> None:
    growing = Hasher()
    for size in range(1601):  # 400 leaves: seven doublings
        digest = growing.digest()
        data = BYTES[:size]
        assert digest == _expected(data, 4, 8)
        assert digest.size == size
        assert len(digest.chunks) <= 8
        if digest.chunks:
            step = digest.chunk_size
            parts = [data[at : at + step] for at in range(0, size, step)]
            assert tuple(map(chunk_hash, parts)) == digest.chunks
            assert combined_hash(digest.chunks) == digest.hash
        growing.update(BYTES[size : size + 1])


@pytest.mark.usefixtures("small_chunks")
def test_every_length_in_one_piece() -> None:
    for size in range(0, 1601, 3):
        assert digest_of(BYTES[:size]) == _expected(BYTES[:size], 4, 8)


@pytest.mark.usefixtures("small_chunks")
def test_every_split_in_two() -> None:
    data = BYTES[:150]
    whole = digest_of(data)
    for at in range(len(data) + 1):
        hasher = Hasher()
        hasher.update(data[:at])
        assert hasher.digest() == digest_of(data[:at])
        hasher.update(data[at:])
        assert hasher.digest() == whole
        assert hasher.digest() == whole


@thorough
@given(st.binary(max_size=10))
def test_pieces_of_any_split_give_the_same_digest(sizes: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "CHUNK_SIZE", 4)
        patch.setattr(digests, "MAX_CHUNKS", 8)
        hasher = Hasher()
        at = 0
        for number, size in enumerate(sizes):
            kind = (bytes, bytearray, memoryview)[number % 3]
            hasher.update(kind(BYTES[at : at + size]))
            at += size
        assert hasher.digest() == _expected(BYTES[:at], 4, 8)


@pytest.mark.usefixtures("small_chunks")
def test_no_two_files_share_a_digest() -> None:
    """Files of few different bytes, their chunks' digests as a file included."""
    files = {bytes(parts) for size in range(9) for parts in product(b"ab", repeat=size)}
    files |= {b"a" * size for size in range(300)}
    files |= {bytes.fromhex("".join(digest_of(data).chunks)) for data in list(files)}
    assert len({(found.size, found.hash) for found in map(digest_of, files)}) == len(files)


@pytest.mark.usefixtures("small_chunks")
def test_every_changed_bit_changes_its_chunk_only() -> None:
    data = BYTES[:70]
    whole = digest_of(data)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        found = digest_of(changed)
        assert found.hash != whole.hash
        differing = [i for i, (a, b) in enumerate(zip(found.chunks, whole.chunks, strict=True))
                     if a != b]  # fmt: skip
        assert differing == [bit // 8 // whole.chunk_size]


@pytest.mark.parametrize("size", [0, 1, 64, 1_000_000])
def test_a_file_of_one_chunk_has_its_plain_sha256(size: int) -> None:
    data = bytes(size)
    assert digest_of(data) == Digest(size, hashlib.sha256(data).hexdigest(), CHUNK_SIZE, ())
    assert chunk_hash(data) == hashlib.sha256(data).hexdigest()
    assert combined_hash([chunk_hash(data)]) == hashlib.sha256(data).hexdigest()


def test_chunks_are_of_eight_mebibytes() -> None:
    assert CHUNK_SIZE == 8 * 1024 * 1024
    data = bytes(2 * CHUNK_SIZE + 5)
    full, last = _sha(data[:CHUNK_SIZE]), _sha(data[:5])
    digest = digest_of(data)
    assert digest.chunks == (full.hex(), full.hex(), last.hex())
    assert digest.hash == _sha(full + full + last).hex()
    assert digest.chunk_size == CHUNK_SIZE
    assert digest_of(data[:CHUNK_SIZE]) == Digest(CHUNK_SIZE, full.hex())
    assert digest_of(data[: CHUNK_SIZE + 1]).chunks == (full.hex(), _sha(data[:1]).hex())
    assert chunk_hash(data) == _sha(_sha(full + full) + last).hex()


@pytest.mark.usefixtures("small_chunks")
def test_views_of_wider_items_are_hashed_as_their_bytes() -> None:
    view = memoryview(BYTES[:64]).cast("I")
    assert digest_of(view) == digest_of(BYTES[:64])
    assert chunk_hash(view) == chunk_hash(BYTES[:64])
    assert digest_of(memoryview(b"")) == digest_of(b"")


# Folders.

PATHS = ["a", "b", "ab", "a b", "x a", "0 a", "dir 0 a"]
CONTENTS = [b"", b"a", b"b", b"ab", b"a\nb"]
# A folder as a value of its own: its files with content and executable bit, and its empty folders.
Folder = tuple[frozenset[tuple[str, bytes, bool]], frozenset[str]]


def _entries(folder: Folder) -> list[FileEntry]:
    return [
        file_entry(path, digest_of(data), payload=0, executable=executable)
        for path, data, executable in folder[0]
    ]


def test_l11_two_small_folders_never_share_a_hash() -> None:
    files = list(product(PATHS, CONTENTS, [False, True]))
    trees = [frozenset[tuple[str, bytes, bool]](), *(frozenset([file]) for file in files)]
    trees += [frozenset(pair) for pair in combinations(files, 2) if pair[0][0] != pair[1][0]]
    hashes = [content_hash(_entries((tree, frozenset()))) for tree in trees]
    for one, other in product([None, *PATHS], repeat=2):
        if one is None or (other is not None and one < other):
            dirs = [path for path in (one, other) if path]
            hashes += [
                content_hash([], dirs),
                content_hash(_entries((trees[1], frozenset())), dirs),
            ]
    hashes = hashes[: len(trees)] + hashes[len(trees) + 2 :]  # without folders: already there
    assert len(set(hashes)) == len(hashes) > 2_000


def _folder(data: bytes) -> Folder:
    files: dict[str, tuple[bytes, bool]] = {}
    dirs = set()
    for byte in data:
        path = PATHS[byte % len(PATHS)]
        if byte > 230:
            dirs.add(path)
        else:
            files[path] = (CONTENTS[byte // 7 % len(CONTENTS)], byte % 2 == 0)
    return frozenset((path, *file) for path, file in files.items()), frozenset(dirs - set(files))


@thorough
@given(st.binary(max_size=8), st.binary(max_size=8))
def test_l11_folders_share_a_hash_exactly_when_they_are_equal(first: bytes, second: bytes) -> None:
    one, other = _folder(first), _folder(second)
    same = content_hash(_entries(one), one[1]) == content_hash(_entries(other), other[1])
    assert same == (one == other)


@given(st.permutations(PATHS))
def test_the_order_of_files_does_not_count(paths: list[str]) -> None:
    sizes = {path: digest_of(path.encode()) for path in paths}
    entries = [file_entry(path, sizes[path], payload=7) for path in paths]
    in_order = [file_entry(path, sizes[path], inline=0) for path in sorted(paths)]
    assert content_hash(entries, ["y", "z"]) == content_hash(in_order, ["z", "y"])


def test_the_hash_of_a_folder_is_over_lines_of_text() -> None:
    a, b = digest_of(b"first"), digest_of(b"second")
    entries = [
        file_entry("b/run.sh", b, payload=0, executable=True),
        file_entry("a.txt", a, inline=0),
    ]
    lines = f"{a.hash} 5 a.txt\n{b.hash} 6x b/run.sh\ndir 0 c\n"
    assert content_hash(entries, ["c"]) == hashlib.sha256(lines.encode()).hexdigest()
    assert content_hash([]) == hashlib.sha256(b"").hexdigest()
