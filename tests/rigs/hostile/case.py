"""What a hostile case is: stored objects, and how they are asked for."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

from asyncstore.digests import digest_of
from asyncstore.record import FileEntry, content_hash, file_entry

NAME = "x"
SLOT = "z8z9z9_1.0.0"
KEY = f"m/{NAME}/{SLOT}"
COMMIT, OTHER = "a" * 32, "b" * 32
PAYLOAD = f"d/{NAME}/{COMMIT}"
TRAPS = ("asyncstore_trap", "asyncstore_trap_package.inside")
"""Modules that are there to be imported, and leave a mark where one is."""

Tree = dict[str, Any]


@dataclass
class Case:
    """What the attacker put where.

    ``objects`` are written as they are. ``links`` and ``pipes`` are planted in a directory, which
    is then where the case plays; ``@`` in a link is the place around all. ``taken`` is what is in
    the way where files are loaded to.
    """

    kind: str
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    as_type: type | None = None
    on_disk: bool = False
    links: dict[str, str] = field(default_factory=dict[str, str])
    pipes: list[str] = field(default_factory=list[str])
    taken: str = "nothing"


def sealed(
    header: bytes, inline: bytes = b"", *, kind: str = "L", commit: str = COMMIT, pad: bool = True
) -> bytes:
    """A record of any header, with the digest that makes it look genuine."""
    if pad:
        header += b" " * max(0, 75 - len(header)) + b"\n"
    start = f"asv1 {kind} {len(header):08d} ".encode()[:16]
    tail = f" {commit} {'0' * 32} {'0' * 32}\n".encode()
    digest = hashlib.sha256(start + b"0" * 64 + tail + header).hexdigest().encode()
    return start + digest + tail + header + inline


def header_text(tree: Any) -> bytes:
    """The JSON of a header; what Python writes for what is no JSON is part of the fun."""
    return json.dumps(tree, ensure_ascii=True).encode()


def genuine(
    contents: dict[str, bytes], *, payload: bool = False, **changes: Any
) -> tuple[Tree, dict[str, bytes], bytes]:
    """The header of an object of these files as a tree, its payload objects, its inline bytes."""
    files: list[FileEntry] = []
    inline = b""
    stored: dict[str, bytes] = {}
    for number, (path, data) in enumerate(contents.items()):
        if payload:
            files.append(file_entry(path, digest_of(data), payload=number))
            stored[f"{PAYLOAD}/{number}"] = data
        else:
            files.append(file_entry(path, digest_of(data), inline=len(inline)))
            inline += data
    tree: Tree = {
        "asv": 1, "min_reader": 1, "features": [], "name": NAME, "version": "1.0.0",
        "created": "2026-11-23T14:22:05.123456Z", "committed": "2026-11-23T14:22:05.125000Z",
        "writer": "asyncstore", "class": "builtins.bytes", "materializer": "bytes",
        "params": {}, "metadata": {}, "files": [as_tree(entry) for entry in files], "dirs": [],
        "hash": content_hash(files), "size": sum(entry.n for entry in files), "trash": [],
    }  # fmt: skip
    return tree | changes, stored, inline


def as_tree(entry: FileEntry) -> Tree:
    """The entry of a file as JSON has it."""
    place = {"i": entry.i} if entry.b is None else {"b": entry.b, "o": entry.o}
    tree: Tree = {"p": entry.p, "n": entry.n, "h": entry.h, **place, "x": entry.x}
    return tree | ({"s": entry.s, "c": entry.c} if entry.c else {})


def refit(tree: Tree) -> None:
    """Make hash and size of a changed header fit again, where they can."""
    try:
        files = [FileEntry(f["p"], f["n"], f["h"], x=bool(f.get("x"))) for f in tree["files"]]
        tree["hash"] = content_hash(files, tree.get("dirs", []))
        tree["size"] = sum(entry.n for entry in files)
    except Exception:  # what was changed has no hash: then that is what is found out
        return


def spoilt(chance: random.Random, data: bytes) -> bytes:
    """The same bytes, but cut, lengthened, or with a few of them changed."""
    how = chance.randrange(6)
    if how == 0:
        return data[: chance.randrange(len(data) + 1)]
    if how == 1:
        return data + chance.randbytes(chance.randrange(1, 40))
    if how == 2 and data:
        at = chance.randrange(len(data))
        return data[:at] + data[at + chance.randrange(1, 9) :]
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
