"""The bytes of a commit record, format ``asv1``: reading, writing and every check. Pure.

A record is one line of exactly 180 bytes, then for a live version its JSON header and the inline
payload. A tombstone is the line alone, so that a listing tells live from dead by size, without a
request for either. ``docs/format.md`` describes it for a reader without this code.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import msgspec

from asyncstore.digests import CHUNK_SIZE, MAX_CHUNKS, Digest, combined_hash
from asyncstore.errors import IntegrityError, StoreKeyFormatError, UnsupportedFormatError
from asyncstore.names import check_name

LINE_SIZE: Final = 180
MIN_LIVE_SIZE: Final = 256
MAX_HEADER: Final = 16 * 1024 * 1024
MAX_INLINE: Final = 1024 * 1024
MAX_RECORD: Final = LINE_SIZE + MAX_HEADER + MAX_INLINE
MAX_FILES: Final = 100_000
MAX_PATH_BYTES: Final = 1024
MAX_DEPTH: Final = 64
FORMAT: Final = 1
NO_COMMIT: Final = "0" * 32

_MAX_NUMBER: Final = 2**63 - 1
_OF_NOTHING: Final = hashlib.sha256().hexdigest()
_LINE: Final = re.compile(
    rb"asv1 ([LD]) ([0-9]{8}) ([0-9a-f]{64}) ([0-9a-f]{32}) ([0-9a-f]{32}) ([0-9a-f]{32})\n"
)
_OTHER_FORMAT: Final = re.compile(rb"asv[0-9]{1,4} ")
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{32}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class FileEntry(msgspec.Struct, omit_defaults=True, frozen=True):
    """One stored file: path, size, hash, and where its bytes are.

    Exactly one of ``i`` (offset in the inline area) and ``b`` (index of a payload object, with
    ``o`` the offset in it) is set. ``c`` holds the hex digests of all chunks of ``s`` bytes, one
    after the other, for a file of more than one chunk; ``x`` marks an executable file.
    """

    p: str
    n: int
    h: str
    i: int | None = None
    b: int | None = None
    o: int = 0
    s: int = CHUNK_SIZE
    c: str = ""
    x: bool = False

    @property
    def chunks(self) -> list[str]:
        """The digest of every chunk; that of the file where it is just one."""
        return [self.c[at : at + 64] for at in range(0, len(self.c), 64)] or [self.h]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """The JSON header of a live version."""

    asv: int = FORMAT
    min_reader: int = FORMAT
    features: list[str] = []
    name: str
    version: str
    created: str
    committed: str
    writer: str
    kind: str
    materializer: str
    params: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    files: list[FileEntry]
    dirs: list[str] = []
    hash: str
    size: int
    trash: list[tuple[str, int]] = []


@dataclass(frozen=True, slots=True)
class Line:
    """The first line of a record: whose commit it is, and which two it came after."""

    live: bool
    header_size: int
    digest: str
    commit: str
    prev: str
    prev2: str

    @property
    def commits(self) -> tuple[str, str, str]:
        """This record's commit and its two predecessors."""
        return self.commit, self.prev, self.prev2


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record as read: its line, and for a live one its manifest and inline bytes."""

    line: Line
    manifest: Manifest | None
    inline: memoryview


_decoder = msgspec.json.Decoder(Manifest)
_encoder = msgspec.json.Encoder()


def new_commit() -> str:
    """A fresh commit id: 128 random bits in hex."""
    return secrets.token_hex(16)


def file_entry(path: str, digest: Digest, *, inline: int | None = None, payload: int | None = None,
               offset: int = 0, executable: bool = False) -> FileEntry:  # fmt: skip
    """The entry of a file whose bytes have this digest."""
    chunks = "".join(digest.chunks)
    return FileEntry(path, digest.size, digest.hash, inline, payload, offset, digest.chunk_size,
                     chunks, executable)  # fmt: skip


def content_hash(files: Iterable[FileEntry], dirs: Iterable[str] = ()) -> str:
    """One hash of all files, their sizes, paths and executable bits, and all empty folders."""
    lines = [(f.p, f"{f.h} {f.n}{'x' if f.x else ''} {f.p}\n") for f in files]
    lines += [(path, f"dir 0 {path}\n") for path in dirs]
    text = "".join(line for _, line in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def write_live(manifest: Manifest, inline: bytes, *, commit: str, after: Line | None) -> bytes:
    """The bytes of a live record that replaces ``after``, or that is the first in its slot.

    Raises IntegrityError where the manifest breaks a rule that every reader checks.
    """
    check_manifest(manifest, inline_size=len(inline))
    header = _encoder.encode(manifest)
    missing = MIN_LIVE_SIZE - LINE_SIZE - len(header) - 1 - len(inline)
    header += b" " * max(missing, 0) + b"\n"
    if len(header) > MAX_HEADER:
        raise IntegrityError(
            f"the header of {manifest.name!r} would have {len(header):,} bytes, and "
            f"{MAX_HEADER:,} is the most: store less metadata or fewer files"
        )
    return _line("L", header, commit, after) + header + inline


def write_tombstone(*, commit: str, after: Line) -> bytes:
    """The bytes of a tombstone that replaces ``after``: the line alone."""
    return _line("D", b"", commit, after)


def _line(kind: str, header: bytes, commit: str, after: Line | None) -> bytes:
    prev, prev2 = (after.commit, after.prev) if after else (NO_COMMIT, NO_COMMIT)
    size = f"{len(header):08d}"
    blank = f"asv1 {kind} {size} {'0' * 64} {commit} {prev} {prev2}\n".encode()
    digest = hashlib.sha256(blank + header).hexdigest()
    return blank[:16] + digest.encode() + blank[80:]


def read_line(data: bytes | memoryview, where: str) -> Line:
    """Parse the first line of the record at ``where``.

    Raises IntegrityError (never "deleted": a crash can leave an empty file) or
    UnsupportedFormatError.
    """
    head = bytes(data[:LINE_SIZE])
    match = _LINE.fullmatch(head)
    if match is None:
        if _OTHER_FORMAT.match(head) and not head.startswith(b"asv1 "):
            raise UnsupportedFormatError(
                f"{where} is written in format {head[:8].split()[0].decode()}, and this version "
                "of asyncstore reads asv1: install a newer one"
            )
        raise IntegrityError(f"{where} is corrupt: its first line is not that of a record")
    kind, size, digest, *commits = (group.decode() for group in match.groups())
    return Line(kind == "L", int(size), digest, *commits)


def is_dead_size(size: int) -> bool:
    """Whether a listed size is that of a tombstone (below it: corrupt; above it: live)."""
    return LINE_SIZE <= size < MIN_LIVE_SIZE


def read_record(data: bytes, where: str, *, name: str | None = None, version: str = "") -> Record:
    """Parse and check a whole record; ``name`` and ``version`` are what its key says.

    Nothing of a record that fails any check is handed out.
    """
    line = read_line(data, where)
    view = memoryview(data)
    end = LINE_SIZE + line.header_size
    header = view[LINE_SIZE:end]
    blank = data[:16] + b"0" * 64 + data[80:LINE_SIZE]
    if header.nbytes != line.header_size or line.header_size > MAX_HEADER:
        raise IntegrityError(f"{where} is corrupt: it is cut short")
    if hashlib.sha256(blank + header).hexdigest() != line.digest:
        raise IntegrityError(f"{where} is corrupt: its digest does not match its header")
    if not line.live:
        if len(data) != LINE_SIZE or line.header_size:
            raise IntegrityError(f"{where} is corrupt: a tombstone is its line alone")
        return Record(line, None, view[end:])
    manifest = _read_manifest(bytes(header), where)
    try:
        check_manifest(manifest, inline_size=len(data) - end)
    except IntegrityError as error:
        raise IntegrityError(f"{where} is corrupt: {error}") from None
    if name is not None and (manifest.name, manifest.version) != (name, version):
        raise IntegrityError(
            f"{where} is corrupt: it is the record of {manifest.name[:80]!r} "
            f"{manifest.version[:80]!r}, where that of {name!r} {version!r} was expected"
        )
    return Record(line, manifest, view[end:])


def read_name(data: bytes, where: str) -> str:
    """The name that a live record at ``where`` carries."""
    manifest = read_record(data, where).manifest
    if manifest is None:
        raise IntegrityError(f"{where} is a tombstone, which carries no name")
    try:
        return check_name(manifest.name)
    except StoreKeyFormatError as error:
        raise IntegrityError(f"{where} is corrupt: {error}") from None


class _Reader(msgspec.Struct):
    """What must be understood before anything else in a header is."""

    min_reader: int = FORMAT
    features: list[str] = []


_reader = msgspec.json.Decoder(_Reader)


def _read_manifest(header: bytes, where: str) -> Manifest:
    try:
        reader = _reader.decode(header)
        if reader.min_reader > FORMAT or reader.features:
            needs = ", ".join(reader.features) or f"format {reader.min_reader}"
            raise UnsupportedFormatError(
                f"{where} needs {needs[:200]}, which this version of asyncstore does not know: "
                "install a newer one"
            )
        return _decoder.decode(header)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise IntegrityError(f"{where} is corrupt: its header is malformed ({error})") from None


def check_manifest(manifest: Manifest, *, inline_size: int) -> None:
    """Raise IntegrityError unless every rule for a manifest holds."""
    if inline_size > MAX_INLINE:
        raise IntegrityError(f"{inline_size:,} inline bytes, and {MAX_INLINE:,} is the most")
    if len(manifest.files) + len(manifest.dirs) > MAX_FILES:
        raise IntegrityError(f"more than {MAX_FILES:,} files")
    check_paths([entry.p for entry in manifest.files], manifest.dirs)
    for entry in manifest.files:
        problem = _entry_problem(entry, inline_size)
        if problem:
            raise IntegrityError(f"file {entry.p!r}: {problem}")
    _check_apart(manifest.files)
    if manifest.size != sum(entry.n for entry in manifest.files):
        raise IntegrityError("its size is not that of its files")
    if manifest.hash != content_hash(manifest.files, manifest.dirs):
        raise IntegrityError("its hash is not that of its files")
    for commit, since in manifest.trash:
        if not _COMMIT.fullmatch(commit) or not 0 <= since <= _MAX_NUMBER:
            raise IntegrityError("its trash holds something that is no commit and its time")
    if too_deep(manifest.params, MAX_DEPTH) or too_deep(manifest.metadata, MAX_DEPTH):
        raise IntegrityError(f"its metadata is nested deeper than {MAX_DEPTH} levels")


def _entry_problem(entry: FileEntry, inline_size: int) -> str | None:
    if (entry.i is None) == (entry.b is None):
        return "exactly one of 'i' and 'b' is expected"
    numbers = (entry.n, entry.o, entry.i or 0, entry.b or 0, entry.s)
    if min(numbers) < 0 or max(*numbers, entry.o + entry.n) > _MAX_NUMBER:
        return "a number is out of range"
    if (entry.b or 0) >= MAX_FILES:
        return "a number is out of range"
    if entry.i is not None and entry.i + entry.n > inline_size:
        return "it reaches past the inline bytes"
    if not _HEX64.fullmatch(entry.h):
        return "a digest is malformed"
    if entry.n == 0 and entry.h != _OF_NOTHING:  # there is no chunk that would be found out
        return "its hash is not that of no bytes"
    if not entry.c and entry.n <= entry.s == CHUNK_SIZE:
        return None  # one chunk, whose digest is that of the file
    chunks = entry.chunks
    if any(not _HEX64.fullmatch(chunk) for chunk in chunks):
        return "a digest is malformed"
    doublings = entry.s // CHUNK_SIZE
    if entry.s != CHUNK_SIZE * doublings or doublings.bit_count() != 1:
        return "its chunk size is not 8 MiB times a power of two"
    if len(chunks) != max(1, -(-entry.n // entry.s)) or len(chunks) > MAX_CHUNKS:
        return "its chunks are not those of its size"
    if combined_hash(chunks) != entry.h:
        return "its hash is not that of its chunks"
    return None


def _check_apart(files: Sequence[FileEntry]) -> None:
    """Raise IntegrityError where stored bytes stand for two files: few would become very many."""
    places = sorted(
        (-1 if file.b is None else file.b, file.o if file.i is None else file.i, file.n)
        for file in files
        if file.n
    )
    for (one, start, size), (other, following, _) in pairwise(places):
        if one == other and following < start + size:
            raise IntegrityError("two of its files share stored bytes")


def check_paths(paths: Sequence[str], dirs: Sequence[str] = ()) -> None:
    """Raise IntegrityError unless all paths stay below one folder, on any system, and differ.

    They must also differ where case and Unicode normalisation do not count, and none may be a
    folder of another.
    """
    seen: set[str] = set()
    for path in (*paths, *dirs):
        problem = _path_problem(path)
        if problem:
            raise IntegrityError(f"the path {path[:80]!r} is refused: {problem}")
        folded = unicodedata.normalize("NFC", path.casefold())
        if folded in seen:
            raise IntegrityError(f"two files have the path {path[:80]!r}, where case is blind")
        seen.add(folded)
    # Not by a set of all folders: hostile paths may name hundreds of new ones each.
    ordered = sorted(seen)
    for path in ordered:
        below = bisect_left(ordered, f"{path}/")
        if below < len(ordered) and ordered[below].startswith(f"{path}/"):
            raise IntegrityError(f"the path {path[:80]!r} is both a file and a folder")


def _path_problem(path: str) -> str | None:
    if not path or path.startswith("/") or "\\" in path:
        return "expected a relative path with '/' between its parts"
    if _CONTROL.search(path):
        return "it holds a control character or a lone surrogate"
    if len(path.encode()) > MAX_PATH_BYTES or not unicodedata.is_normalized("NFC", path):
        return f"expected at most {MAX_PATH_BYTES} bytes of UTF-8 in normal form NFC"
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return "it has an empty part, '.' or '..'"
    if path[1:2] == ":":
        return "it begins with a drive"
    return None


def too_deep(tree: Any, depth: int) -> bool:
    """Whether a JSON value nests containers deeper than ``depth``."""
    level: list[Any] = [tree]
    for _ in range(depth + 1):
        inner: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                inner.extend(node.values())
            elif isinstance(node, list | tuple):
                inner.extend(node)
        if not inner:
            return False
        level = inner
    return True
