"""The bytes of a record: what is written comes back, and nothing damaged or hostile gets through.

Lesson X2: a file list from a store is hostile until it is checked, even where its digest is right.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore import record as record_module
from asyncstore.digests import CHUNK_SIZE, combined_hash, digest_of
from asyncstore.errors import IntegrityError, UnsupportedFormatError
from asyncstore.record import (
    LINE_SIZE,
    MAX_HEADER,
    MAX_INLINE,
    MIN_LIVE_SIZE,
    NO_COMMIT,
    FileEntry,
    Line,
    Manifest,
    check_paths,
    content_hash,
    file_entry,
    is_dead_size,
    new_commit,
    read_line,
    read_name,
    read_record,
    too_deep,
    write_live,
    write_tombstone,
)

thorough = settings(max_examples=10_000, deadline=None)

REFUSALS = (IntegrityError, UnsupportedFormatError)
A, B, C = "a" * 32, "b" * 32, "c" * 32
AFTER = Line(live=True, header_size=300, digest="0" * 64, commit=B, prev=C, prev2=NO_COMMIT)


def manifest_of(files: list[FileEntry], dirs: list[str] | None = None, **changes: Any) -> Manifest:
    """A manifest that keeps all rules, with any field changed."""
    fields: dict[str, Any] = {
        "name": "project:model",
        "version": "1.0.3",
        "created": "2026-11-23T14:22:05.123456Z",
        "committed": "2026-11-23T14:22:05.123456Z",
        "writer": "asyncstore/0.1 host/7",
        "kind": "builtins.dict",
        "materializer": "json",
        "files": files,
        "dirs": dirs or [],
        "hash": content_hash(files, dirs or []),
        "size": sum(entry.n for entry in files),
    }
    return Manifest(**(fields | changes))


def live_record(contents: dict[str, bytes], **changes: Any) -> tuple[Manifest, bytes, bytes]:
    """A manifest of inline files, its inline bytes, and the record of both."""
    files: list[FileEntry] = []
    inline = b""
    for path, data in contents.items():
        files.append(file_entry(path, digest_of(data), inline=len(inline)))
        inline += data
    manifest = manifest_of(files, **changes)
    return manifest, inline, write_live(manifest, inline, commit=A, after=AFTER)


def sealed(header: bytes, inline: bytes = b"", kind: bytes = b"L") -> bytes:
    """A record of any header, with the digest that makes it look genuine."""
    tail = f" {A} {B} {C}\n".encode()
    start = b"asv1 %s %08d " % (kind, len(header))
    digest = hashlib.sha256(start + b"0" * 64 + tail + header).hexdigest().encode()
    return start + digest + tail + header + inline


def header_of(record: bytes) -> dict[str, Any]:
    """The JSON header of a record as a tree."""
    tree: dict[str, Any] = json.loads(record[LINE_SIZE : LINE_SIZE + int(record[7:15])])
    return tree


def resealed(tree: Any, inline: bytes = b"") -> bytes:
    """The record of a changed header tree; the hash and size of its files still fit if they can."""
    return sealed(json.dumps(tree, ensure_ascii=True).encode(), inline)


CONTENTS = {"data.json": b'{"a":1}', "weights/a.bin": bytes(range(256)), "empty": b""}
MANIFEST, INLINE, LIVE = live_record(CONTENTS, metadata={"stage": "dev", "tags": ["x", 1, None]})
TOMBSTONE = write_tombstone(commit=A, after=AFTER)


# What is written comes back.

TEXTS = ["", "a", "é", "e\u0301", "模型", "\U0001f600", '"', "\\", "\x00\x1f\x7f", "</", "\u2028"]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**53, 2**63 - 1, -(2**63), 1.5, -0.0, 1e300, 5e-324, [], {}),
    *({"a": [{"b": []}]}, [[[]]], *TEXTS),
]
NAMES = ["a", "a.txt", "é", "模型", "con", "x y", "ab:c", "...", ".x", "-", "%2e", "a'\"b", "😀"]


@thorough
@given(st.binary(max_size=12))
def test_a_live_record_comes_back(choices: bytes) -> None:
    files: list[FileEntry] = []
    inline = b""
    for number, how in enumerate(choices[:4]):
        data = choices[number : number + how % 9]
        path = f"{NAMES[how % len(NAMES)]}/{number}/{NAMES[how // 16 % len(NAMES)]}"
        if how % 3:
            files.append(file_entry(path, digest_of(data), inline=len(inline)))
            inline += data
        else:
            at = {"payload": number, "offset": how * 5}
            entry = file_entry(path, digest_of(data), executable=True, **at)
            files.append(entry)
    metadata = {TEXTS[c % len(TEXTS)]: VALUES[c % len(VALUES)] for c in choices[:5]}
    dirs = [f"d{c}" for c in set(choices[:3])]
    manifest = manifest_of(
        files, dirs, metadata=metadata, params={"x": metadata}, trash=[(C, c) for c in choices]
    )
    data = write_live(manifest, inline, commit=A, after=AFTER)
    found = read_record(data, "here", name="project:model", version="1.0.3")
    assert found.manifest == manifest
    assert bytes(found.inline) == inline
    assert found.line.live
    assert found.line.commits == (A, B, C)
    assert read_line(data, "here") == found.line
    assert len(data) >= MIN_LIVE_SIZE
    assert not is_dead_size(len(data))
    # The header is one line that any JSON reader understands.
    header = data[LINE_SIZE : LINE_SIZE + found.line.header_size]
    tree = json.loads(header)
    assert header.count(b"\n") == 1
    assert header[-1:] == b"\n"
    assert tree["metadata"] == metadata


@given(st.binary(min_size=48, max_size=48), st.booleans())
def test_a_tombstone_comes_back(ids: bytes, first: bool) -> None:
    mine, before, earlier = ids[:16].hex(), ids[16:32].hex(), ids[32:].hex()
    after = Line(True, 0, "0" * 64, before, NO_COMMIT if first else earlier, C)
    data = write_tombstone(commit=mine, after=after)
    found = read_record(data, "here")
    assert len(data) == LINE_SIZE == 180
    assert is_dead_size(len(data))
    assert found.manifest is None
    assert bytes(found.inline) == b""
    assert not found.line.live
    assert found.line.commits == (mine, before, after.prev)


def test_the_first_record_of_a_slot_names_no_predecessor() -> None:
    data = write_live(MANIFEST, INLINE, commit=A, after=None)
    assert read_line(data, "here").commits == (A, NO_COMMIT, NO_COMMIT)
    second = write_tombstone(commit=B, after=read_line(data, "here"))
    assert read_line(second, "here").commits == (B, A, NO_COMMIT)
    third = write_live(MANIFEST, INLINE, commit=C, after=read_line(second, "here"))
    assert read_line(third, "here").commits == (C, B, A)


def test_sizes_tell_the_dead_from_the_living_and_the_torn() -> None:
    smallest = Manifest(
        name="a", version="1", created="", committed="", writer="", kind="", materializer="",
        files=[], hash=content_hash([]), size=0,
    )  # fmt: skip
    assert len(write_live(smallest, b"", commit=A, after=None)) >= MIN_LIVE_SIZE == 256
    assert len(TOMBSTONE) == 180
    assert [size for size in range(400) if is_dead_size(size)] == list(range(180, 256))


def test_the_line_is_text_of_fixed_places() -> None:
    form = rb"asv1 L [0-9]{8} [0-9a-f]{64} a{32} b{32} c{32}\n"
    assert re.fullmatch(form, LIVE[:LINE_SIZE])
    assert sealed(LIVE[LINE_SIZE : LINE_SIZE + int(LIVE[7:15])], INLINE) == LIVE
    assert sealed(b"", kind=b"D") == TOMBSTONE


def test_commit_ids_are_random() -> None:
    ids = {new_commit() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", commit) for commit in ids)


def test_a_file_of_many_chunks_comes_back() -> None:
    data = bytes(2 * CHUNK_SIZE + 1)
    digest = digest_of(data)
    files = [file_entry("big", digest, payload=0), file_entry("s", digest_of(b"x"), payload=1)]
    record = write_live(manifest_of(files), b"", commit=A, after=None)
    found = read_record(record, "here").manifest
    assert found is not None
    assert found.files == files
    assert found.files[0].chunks == list(digest.chunks)
    assert found.files[1].chunks == [hashlib.sha256(b"x").hexdigest()]


def test_read_name() -> None:
    assert read_name(LIVE, "here") == "project:model"
    with pytest.raises(IntegrityError, match="here is a tombstone, which carries no name"):
        read_name(TOMBSTONE, "here")


@pytest.mark.parametrize("name", ["", " a", "a@1", "a\0b", "x" * 1025])
def test_read_name_answers_only_with_what_can_be_a_name(name: str) -> None:
    data = live_record({}, name=name)[2]
    with pytest.raises(IntegrityError, match="cannot name an object"):
        read_name(data, "here")


# Damage.


@pytest.mark.parametrize("data", [LIVE, TOMBSTONE])
def test_every_flipped_bit_of_line_and_header_is_refused(data: bytes) -> None:
    read_record(data, "here")
    for bit in range(8 * (LINE_SIZE + int(data[7:15]))):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(REFUSALS, match=r"^here "):
            read_record(bytes(damaged), "here")


def test_every_flipped_bit_of_inline_bytes_is_caught_by_a_file_hash() -> None:
    start = len(LIVE) - len(INLINE)
    for bit in range(8 * len(INLINE)):
        damaged = bytearray(LIVE)
        damaged[start + bit // 8] ^= 1 << bit % 8
        found = read_record(bytes(damaged), "here")
        assert found.manifest is not None
        wrong = [
            entry.p for entry in found.manifest.files
            if entry.i is not None
            and hashlib.sha256(found.inline[entry.i : entry.i + entry.n]).hexdigest() != entry.h
        ]  # fmt: skip
        assert len(wrong) == 1


@pytest.mark.parametrize("data", [LIVE, TOMBSTONE])
def test_a_record_cut_short_anywhere_is_refused(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(IntegrityError, match=r"^here is corrupt: "):
            read_record(data[:size], "here")
        if size < LINE_SIZE:
            with pytest.raises(IntegrityError, match=r"^here is corrupt: its first line"):
                read_line(data[:size], "here")


@pytest.mark.parametrize("rest", [b"\0", b"\n", TOMBSTONE, LIVE])
def test_a_tombstone_is_its_line_alone(rest: bytes) -> None:
    with pytest.raises(IntegrityError, match="a tombstone is its line alone"):
        read_record(TOMBSTONE + rest, "here")
    with pytest.raises(IntegrityError, match="a tombstone is its line alone"):
        read_record(sealed(rest, kind=b"D"), "here")


@settings(max_examples=2_000, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_never_a_record(data: bytes) -> None:
    for noise in (data, LIVE[: len(data)] + data, b"asv1 D " + data, TOMBSTONE[:170] + data):
        if noise not in (LIVE, TOMBSTONE):
            with pytest.raises(REFUSALS):
                read_record(noise, "here")


# Newer formats.


@pytest.mark.parametrize("start", [b"asv2 ", b"asv10 ", b"asv0 ", b"asv9999 "])
def test_another_format_is_not_called_corrupt(start: bytes) -> None:
    data = start + LIVE[5:]
    for read in (read_line, read_record):
        with pytest.raises(UnsupportedFormatError, match=f"format {start.decode().strip()}, and"):
            read(data, "here")


@pytest.mark.parametrize("start", [b"asv ", b"asv1\t", b"asvX ", b"asv10000 ", b"ASV1 ", b" asv1"])
def test_what_is_no_format_is_corrupt(start: bytes) -> None:
    with pytest.raises(IntegrityError, match="here is corrupt: its first line is not that of"):
        read_record(start + LIVE[5:], "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_reader": 2}, "here needs format 2, which this version"),
        ({"min_reader": 10**30}, "here needs format 1000000000000000000000000000000, which"),
        ({"features": ["zstd"]}, "here needs zstd, which this version"),
        ({"features": ["zstd", "dedup"], "min_reader": 3}, "here needs zstd, dedup, which"),
        # Everything else may have changed beyond recognition.
        ({"min_reader": 2, "files": {"a": 1}, "name": 7, "size": None}, "here needs format 2"),
    ],
)
def test_a_newer_record_asks_for_a_newer_reader(changes: dict[str, Any], message: str) -> None:
    data = resealed(header_of(LIVE) | changes, INLINE)
    with pytest.raises(UnsupportedFormatError, match=re.escape(message)):
        read_record(data, "here")


def test_unknown_keys_are_ignored() -> None:
    tree = header_of(LIVE) | {"asv": 2, "later": {"x": [1]}}
    tree["files"][0]["z"] = "new"
    assert read_record(resealed(tree, INLINE), "here").manifest == msgspec.structs.replace(
        MANIFEST, asv=2
    )


# Hostile headers, with a digest that is right.


def refused(data: bytes, message: str) -> None:
    """Assert that the record is called corrupt, for this reason."""
    with pytest.raises(IntegrityError, match=re.escape(message)) as caught:
        read_record(data, "here")
    assert str(caught.value).startswith("here is corrupt: ")
    assert len(str(caught.value)) < 1000


def record_of(entries: list[dict[str, Any]], inline: bytes = b"", dirs: Any = ()) -> bytes:
    """A record of any file entries, whose hash and size fit them wherever that makes sense."""
    tree = header_of(LIVE) | {"files": entries, "dirs": list(dirs)}
    files = [FileEntry(e["p"], e["n"], e["h"], x=e.get("x", False)) for e in entries]
    tree["hash"] = content_hash(files, dirs)
    tree["size"] = sum(entry["n"] for entry in entries)
    return resealed(tree, inline)


def entry(path: str = "a", **changes: Any) -> dict[str, Any]:
    """The entry of the inline file ``x``, with any field changed."""
    return {"p": path, "n": 1, "h": hashlib.sha256(b"x").hexdigest(), "i": 0} | changes


def test_the_hostile_records_below_are_refused_for_what_is_hostile_in_them() -> None:
    found = read_record(record_of([entry()], b"x", ["d"]), "here")
    assert found.manifest is not None
    assert found.manifest.files == [FileEntry("a", 1, hashlib.sha256(b"x").hexdigest(), i=0)]


PATHS = [
    *(("", "expected a relative path"), ("/", "expected a relative path")),
    *(("/etc/passwd", "expected a relative path"), ("//host/share", "expected a relative path")),
    *(("\\\\host\\share", "expected a relative path"), ("..\\x", "expected a relative path")),
    *((path, "an empty part, '.' or '..'")
      for path in ("..", ".", "../x", "a/..", "a/../b", "a/./b", "./a", "a//b", "a/", "a/.")),
    *((path, "it begins with a drive") for path in ("c:x", "C:/x", "c:", "a:")),
    *((path, "control character or a lone surrogate")
      for path in ("a\0b", "a\nb", "a\x1f", "\x7f", "\ud800", "a/\t")),
    *((path, "in normal form NFC") for path in ("e\u0301", "\u212b", "a/\u1100\u1161")),
    *((path, "at most 1024 bytes") for path in ("a" * 1025, "模" * 342, "a/" * 512 + "b")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "message"), PATHS)
def test_x2_a_path_never_leaves_its_folder(path: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=re.escape(message)):
        check_paths(["ok", path])
    with pytest.raises(IntegrityError, match=re.escape(message)):
        check_paths(["ok"], [path])
    if "\ud800" not in path:
        refused(record_of([entry(path)], b"x"), message)
        refused(record_of([entry()], b"x", [path]), message)


def test_a_lone_surrogate_in_a_header_is_refused() -> None:
    header = json.dumps(header_of(LIVE)).replace("data.json", "\\ud800").encode()
    refused(sealed(header, INLINE), "its header is malformed")


TWINS = [
    ("a", "a"),
    ("a", "A"),
    ("straße", "STRASSE"),
    ("ﬁ", "FI"),
    ("é", "É"),
    ("a/B", "A/b"),
    ("ς", "Σ"),
    ("ΐ", "ΐ".upper()),
]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_x2_twins_where_case_is_blind_are_refused(one: str, other: str) -> None:
    other = unicodedata.normalize("NFC", other)
    message = "where case is blind"
    refused(record_of([entry(one), entry(other)], b"x"), message)
    refused(record_of([entry(one)], b"x", [other]), message)
    refused(record_of([], b"", [one, other]), message)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a/b"), ("a/b", "a"), ("A", "a/b"), ("é/x", "É"), ("a/b/c", "A")]
)
def test_x2_nothing_is_both_a_file_and_a_folder(one: str, other: str) -> None:
    message = "is both a file and a folder"
    refused(record_of([entry(one), entry(other)], b"x"), message)
    refused(record_of([entry(one)], b"x", [other]), message)
    refused(record_of([], b"", [one, other]), message)


@pytest.mark.parametrize("between", ["a!", "a-b", "a.b/c", "a b"])
def test_x2_nor_where_another_path_sorts_between_the_two(between: str) -> None:
    refused(record_of([], b"", ["a", between, "a/b"]), "the path 'a' is both a file and a folder")
    check_paths([between, "a/b", "a/c", "a0"], ["b"])


def test_x2_paths_of_many_folders_cost_no_more_than_their_bytes() -> None:
    paths = [f"{number:04}/{'a/' * 500}b" for number in range(2_000)]
    tracemalloc.start()
    try:
        check_paths(paths)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * sum(map(len, paths))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 2}, "it reaches past the inline bytes"),
        ({"i": 1}, "it reaches past the inline bytes"),
        ({"i": 2**62}, "it reaches past the inline bytes"),
        ({"i": 10**25}, "a number is out of range"),
        ({"i": -1}, "a number is out of range"),
        ({"n": -1}, "a number is out of range"),
        ({"o": -1}, "a number is out of range"),
        ({"o": 2**63}, "a number is out of range"),
        ({"i": None, "b": 0, "o": 2**63 - 1}, "a number is out of range"),
        ({"i": None, "b": -1}, "a number is out of range"),
        ({"i": None, "b": 100_000}, "a number is out of range"),
        ({"i": None, "b": 0, "n": 2**63}, "a number is out of range"),
        ({"i": None, "b": 0, "n": 10**100, "s": CHUNK_SIZE * 2**400}, "a number is out of range"),
        ({"s": CHUNK_SIZE * 2**400}, "a number is out of range"),
        ({"s": -CHUNK_SIZE}, "a number is out of range"),
        ({"i": None}, "exactly one of 'i' and 'b'"),
        ({"b": 0}, "exactly one of 'i' and 'b'"),
        ({"n": 0}, "its hash is not that of no bytes"),
        ({"h": ""}, "a digest is malformed"),
        ({"h": "A" * 64}, "a digest is malformed"),
        ({"h": "0" * 63}, "a digest is malformed"),
        ({"h": "0" * 64 + "\n"}, "a digest is malformed"),
        ({"c": "0" * 65}, "a digest is malformed"),
        ({"c": "x" * 64}, "a digest is malformed"),
        ({"c": "0" * 64}, "its hash is not that of its chunks"),
        ({"c": "0" * 128}, "its chunks are not those of its size"),
        ({"s": 0}, "its chunk size is not 8 MiB times a power of two"),
        ({"s": 1}, "its chunk size is not 8 MiB times a power of two"),
        ({"s": 3 * CHUNK_SIZE}, "its chunk size is not 8 MiB times a power of two"),
        ({"s": CHUNK_SIZE + 1}, "its chunk size is not 8 MiB times a power of two"),
        ({"i": None, "b": 0, "n": CHUNK_SIZE + 1}, "its chunks are not those of its size"),
        ({"i": None, "b": 0, "n": 2**62}, "its chunks are not those of its size"),
    ],
)
def test_x2_lying_numbers_are_refused(changes: dict[str, Any], message: str) -> None:
    refused(record_of([entry(**changes)], b"x"), message)


@pytest.mark.parametrize(
    "places",
    [
        [{"i": 0, "n": 2}, {"i": 1}],
        [{"i": 0}, {"i": 1}, {"i": 0}],
        [{"i": None, "b": 3, "o": 7, "n": 9}, {"i": None, "b": 3, "o": 15}],
        [{"i": None, "b": 0}, {"i": 0}, {"i": None, "b": 0}],
    ],
)
def test_x2_no_byte_stands_for_two_files(places: list[dict[str, Any]]) -> None:
    files = [entry(f"file-{number}", **place) for number, place in enumerate(places)]
    refused(record_of(files, b"xyz"), "two of its files share stored bytes")


def test_files_side_by_side_share_an_object_and_empty_ones_share_a_place() -> None:
    nothing = hashlib.sha256().hexdigest()
    places: list[dict[str, Any]] = [
        *({"i": None, "b": 1, "o": 5}, {"i": None, "b": 1, "o": 4}, {"i": None, "b": 0, "o": 4}),
        *({"i": 0}, {"i": 1}, {"i": 0, "n": 0, "h": nothing}),
        {"i": 0, "n": 0, "h": nothing},
    ]
    files = [entry(f"file-{number}", **place) for number, place in enumerate(places)]
    assert read_record(record_of(files, b"xy"), "here").manifest is not None


def test_x2_lists_of_chunks_must_fit() -> None:
    chunks = [hashlib.sha256(bytes([i])).hexdigest() for i in range(3)]
    size = 2 * CHUNK_SIZE + 1

    def big(listed: list[str], **changes: Any) -> bytes:
        fields = {"i": None, "b": 0, "n": size, "h": combined_hash(listed), "c": "".join(listed)}
        return record_of([entry(**(fields | changes))])

    assert read_record(big(chunks), "here").manifest is not None
    assert read_record(big(chunks[:2], s=2 * CHUNK_SIZE), "here").manifest is not None
    refused(big(chunks[:2]), "its chunks are not those of its size")
    refused(big(chunks + chunks[:1]), "its chunks are not those of its size")
    refused(big(chunks, s=2 * CHUNK_SIZE), "its chunks are not those of its size")
    refused(big(chunks, h=combined_hash(chunks[::-1])), "its hash is not that of its chunks")
    refused(big(chunks, n=2 * CHUNK_SIZE), "its chunks are not those of its size")
    many = chunks[:1] * 4097
    refused(big(many, n=4097 * CHUNK_SIZE), "its chunks are not those of its size")
    assert read_record(big(many[1:], n=4096 * CHUNK_SIZE), "here").manifest is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "its size is not that of its files"),
        ({"size": -1}, "its size is not that of its files"),
        ({"size": 10**40}, "its size is not that of its files"),
        ({"hash": "0" * 64}, "its hash is not that of its files"),
        ({"dirs": ["new"]}, "its hash is not that of its files"),
        ({"trash": [["x", 1]]}, "its trash holds something"),
        ({"trash": [[A, -1]]}, "its trash holds something"),
        ({"trash": [[A, 2**63]]}, "its trash holds something"),
        ({"trash": [[A + "\n", 1]]}, "its trash holds something"),
        ({"trash": [["../" + A[3:], 1]]}, "its trash holds something"),
        ({"trash": [[A]]}, "its header is malformed"),
        ({"trash": {A: 1}}, "its header is malformed"),
        ({"min_reader": "1"}, "its header is malformed"),
        ({"min_reader": None}, "its header is malformed"),
        ({"features": "zstd"}, "its header is malformed"),
        ({"features": [1]}, "its header is malformed"),
        ({"files": None}, "its header is malformed"),
        ({"files": ["a"]}, "its header is malformed"),
        ({"dirs": [None]}, "its header is malformed"),
        ({"name": 7}, "its header is malformed"),
        ({"version": 1.0}, "its header is malformed"),
        ({"class": None}, "its header is malformed"),
        ({"metadata": []}, "its header is malformed"),
        ({"params": "x"}, "its header is malformed"),
    ],
)
def test_x2_wrong_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    refused(resealed(header_of(LIVE) | changes, INLINE), message)


@pytest.mark.parametrize("field", header_of(LIVE))
def test_a_missing_field_is_refused_or_has_its_default(field: str) -> None:
    tree = header_of(LIVE)
    del tree[field]
    if field in {"asv", "min_reader", "features", "params", "dirs", "trash", "metadata"}:
        assert read_record(resealed(tree, INLINE), "here").line.live
    else:
        refused(resealed(tree, INLINE), f"missing required field `{field}`")


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b" ", b"{}", b"[]", b"null", b"1", b'"a"', b"{", b"{}{}", b"\xff", b"NaN", b"\0"),
        b"[" * 1_000_000,
        b'{"metadata":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"min_reader":' + b"9" * 100_000 + b"}",
        b'{"min_reader":1e400}',
        b'{"files":[' + b"{}," * 1000 + b"{}]}",
        LIVE[LINE_SIZE : LINE_SIZE + int(LIVE[7:15])] + b"x",
        LIVE[LINE_SIZE : LINE_SIZE + int(LIVE[7:15])].decode().encode("utf-16"),
        b"\xef\xbb\xbf" + LIVE[LINE_SIZE : LINE_SIZE + int(LIVE[7:15])],
    ],
    ids=lambda header: repr(header[:20]),
)
def test_x2_headers_that_are_no_header_are_refused(header: bytes) -> None:
    refused(sealed(header, INLINE), "its header is malformed")


def test_of_duplicate_keys_the_last_one_is_checked_and_counts() -> None:
    """As every reader of JSON has it, so that no two of them see different files."""
    good = json.dumps(header_of(LIVE))
    bad = json.dumps(header_of(LIVE) | {"files": [entry("../x")]})
    both = '{"files":' + json.dumps([entry("../x")]) + "," + good[1:]
    found = read_record(sealed(both.encode(), INLINE), "here").manifest
    assert found is not None
    assert [file.p for file in found.files] == [file["p"] for file in json.loads(both)["files"]]
    refused(sealed((good[:-1] + "," + bad[1:]).encode(), INLINE), "an empty part, '.' or '..'")
    newer = sealed((good[:-1] + ',"min_reader":2}').encode(), INLINE)
    with pytest.raises(UnsupportedFormatError):
        read_record(newer, "here")


def test_metadata_has_a_greatest_depth() -> None:
    def nested(depth: int, outer: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
        tree: Any = 1
        for _ in range(depth):
            tree = outer(tree)
        return tree

    for outer in (lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (0, inner)):
        assert [too_deep(nested(depth, outer), 3) for depth in range(6)] == [False] * 4 + [True] * 2
    read_record(live_record({}, metadata={"a": nested(63)})[2], "here")
    tree = header_of(LIVE)
    refused(resealed(tree | {"metadata": {"a": nested(64)}}, INLINE), "deeper than 64 levels")
    refused(resealed(tree | {"params": {"a": nested(300)}}, INLINE), "deeper than 64 levels")
    for outer in (lambda inner: [inner], lambda inner: (inner,)):
        with pytest.raises(IntegrityError, match="deeper than 64 levels"):
            live_record({}, metadata={"a": nested(64, outer)})


def test_limits_of_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (MAX_HEADER, MAX_INLINE) == (16 * 1024 * 1024, 1024 * 1024)
    too_much = bytes(MAX_INLINE + 1)
    with pytest.raises(IntegrityError, match="1,048,577 inline bytes, and 1,048,576 is the most"):
        live_record({"a": too_much})
    refused(LIVE + too_much, "inline bytes, and 1,048,576 is the most")
    with pytest.raises(IntegrityError, match="store less metadata or fewer files"):
        live_record({}, metadata={"a": "x" * MAX_HEADER})
    refused(sealed(b" " * (MAX_HEADER + 1)), "cut short")
    monkeypatch.setattr(record_module, "MAX_FILES", 2)
    refused(record_of([entry("a"), entry("b")], b"x", ["c"]), "more than 2 files")


@pytest.mark.parametrize("name", ["other", "", "project:Model"])
def test_a_record_under_the_key_of_another_is_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match=f"where that of {name!r} '1.0.3' was expected"):
        read_record(LIVE, "here", name=name, version="1.0.3")
    with pytest.raises(IntegrityError, match=re.escape("it is the record of 'project:model' '1.0")):
        read_record(LIVE, "here", name="project:model", version="1.0.4")


@pytest.mark.parametrize(
    "manifest",
    [
        manifest_of([FileEntry("../x", 0, digest_of(b"").hash, i=0)]),
        manifest_of([FileEntry("a", 5, digest_of(b"").hash, i=0)]),
        manifest_of([FileEntry("a", 0, digest_of(b"").hash)]),
        manifest_of([], size=1),
        manifest_of([], hash="0" * 64),
        manifest_of([], trash=[("x", 1)]),
    ],
)
def test_nothing_is_written_that_no_reader_would_take(manifest: Manifest) -> None:
    with pytest.raises(IntegrityError):
        write_live(manifest, b"", commit=A, after=None)


# Fuzz: a genuine record, changed in any way and sealed again.

HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1, 2, 255, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, 1e300, "", "a"),
    *("..", "../x", "/x", "a/../b", "c:x", "a\\b", "\0", "e\u0301", "A", "weights", "DATA.json"),
    *("0" * 64, "0" * 128, A, [], {}, [[]], {"p": "x"}, [1], [None], ["a", "a"], ["a", "a/b"]),
    *(CHUNK_SIZE, -CHUNK_SIZE, 2 * CHUNK_SIZE, "x" * 2000, [[A, 10**30]], [entry("/x")]),
]
FIELDS = [
    *header_of(LIVE),
    *(f"files/{i}/{field}" for i in range(3) for field in ("p", "n", "h", "i", "b", "o", "s", "c")),
    *(f"files/{i}" for i in range(3)),
]


def _mutated(data: bytes) -> bytes:
    """A sealed record with a field set or removed for every two bytes, or its text damaged."""
    tree = header_of(LIVE)
    for where, what in zip(data[1::2], data[2::2], strict=False):
        *path, last = FIELDS[where % len(FIELDS)].split("/")
        node: Any = tree
        value = copy.deepcopy(HOSTILE[what % len(HOSTILE)])
        for step in path:
            inner = node[int(step)] if isinstance(node, list) and len(node) > 2 else None
            node = node.get(step) if isinstance(node, dict) else inner
        if isinstance(node, list) and len(node) > 2:
            node[int(last)] = value
        elif isinstance(node, dict) and what > 250:
            node.pop(last, None)
        elif isinstance(node, dict):
            node[last] = value
    if data[0] % 2:  # let what is derived fit, so that more than the two sums is tried
        files = tree.get("files")
        try:
            tree["size"] = sum(file["n"] for file in files)
            entries = [FileEntry(file["p"], file["n"], file["h"]) for file in files]
            tree["hash"] = content_hash(entries, tree["dirs"])
        except (TypeError, KeyError, AttributeError):
            pass
    header = bytearray(json.dumps(tree).encode())
    if data[0] % 5 == 0:
        at = data[-1] * 7 % len(header)
        header[at : at + data[0] // 100] = bytes([data[-1]])
    return sealed(bytes(header), INLINE[: len(INLINE) - (data[0] % 7 == 0)])


@thorough
@given(st.binary(min_size=1, max_size=9))
def test_x2_a_changed_record_is_refused_or_keeps_every_rule(data: bytes) -> None:
    hostile = _mutated(data)
    try:
        found = read_record(hostile, "here")
    except REFUSALS:
        return
    manifest = found.manifest
    assert manifest is not None
    assert manifest.min_reader <= 1
    assert not manifest.features
    assert manifest.size == sum(file.n for file in manifest.files) >= 0
    everything = [file.p for file in manifest.files] + manifest.dirs
    folded = [unicodedata.normalize("NFC", path.casefold()) for path in everything]
    assert len(set(folded)) == len(folded)
    assert not any(other.startswith(path + "/") for path in folded for other in folded)
    for path in everything:
        assert not PurePosixPath(path).is_absolute()
        assert not PureWindowsPath(path).anchor
        assert not {"", ".", ".."} & set(re.split(r"[/\\]", path))
        assert not re.search(r"[\\\0\n]", path)
        assert unicodedata.is_normalized("NFC", path)
    for file in manifest.files:
        assert (file.i is None) != (file.b is None)
        assert file.i is None or 0 <= file.i <= file.i + file.n <= len(found.inline)
        assert file.b is None or 0 <= file.b < 100_000
        assert 0 <= file.n < 2**63
        assert 0 <= file.o < 2**63
        assert len(file.chunks) == max(1, -(-file.n // file.s))
        assert combined_hash(file.chunks) == file.h
    # What was accepted can be written again.
    assert write_live(manifest, bytes(found.inline), commit=A, after=AFTER)


def test_the_fuzz_reaches_both_answers() -> None:
    """Else the test above would say nothing."""
    answers = []
    for number in range(3000):
        try:
            read_record(_mutated(hashlib.sha256(b"%d" % number).digest()[: 1 + number % 9]), "here")
            answers.append("accepted")
        except REFUSALS as error:
            answers.append(type(error).__name__ + str(error)[-20:])
    assert 100 < answers.count("accepted") < 2000
    assert len(set(answers)) > 15
