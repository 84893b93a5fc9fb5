"""Reading files and directories of the local backend: plain functions of paths."""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from asyncstore.backends.base import Blob, Entry, Page

ABSENT: Final = (FileNotFoundError, NotADirectoryError)
"""What the system says of a path that is not there, or that is below a file."""

_TAGGED: Final = 32 * 1024 * 1024


def tag_of(data: bytes) -> str:
    """The tag of a small object: a digest of its bytes (every record holds a fresh commit id)."""
    return hashlib.blake2b(data, digest_size=16).hexdigest() if len(data) <= _TAGGED else ""


def read(path: str, start: int, length: int | None, *, most: int | None = None) -> Blob | None:
    """Read a range with one open; None where there is no such file, EFBIG over ``most`` bytes.

    Only who asks for all there is gets a tag: hashing payload a second time would be for nothing.
    """
    try:  # not blocking: opening a planted pipe would wait for its writer
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except ABSENT:
        return None
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            return None
        size = status.st_size
        if most is not None and size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        wanted = max(0, size - start)
        wanted = wanted if length is None else min(wanted, length)
        data = _read_exactly(fd, start, wanted)
    finally:
        os.close(fd)
    whole = wanted == size and (length is None or length > size)
    return Blob(data, size, tag_of(data) if whole else "")


def _read_exactly(fd: int, start: int, wanted: int) -> bytes:
    # One read call fills one new bytes object without the interpreter lock: no copy on our side.
    data = os.pread(fd, wanted, start)
    if len(data) == wanted:
        return data
    parts = [data]
    while (have := sum(map(len, parts))) < wanted:
        part = os.pread(fd, wanted - have, start + have)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def names(folder: str, *, files: bool = False) -> list[str] | None:
    """What a directory holds; a directory in it with the ``/`` that it sorts by.

    With ``files``, directories are not told from files: who reads them will find out.
    """
    try:
        if files or _holds_files_only(folder):
            return os.listdir(folder)
        with os.scandir(folder) as found:
            return [e.name + "/" if e.is_dir(follow_symlinks=False) else e.name for e in found]
    except ABSENT:
        return None


def _holds_files_only(folder: str) -> bool:
    """Whether it surely holds no directories, by its links, each of which is one's ``..``.

    Some file systems count none and say 2 of every directory: its parent, which holds at least
    this one, tells.
    """
    return os.stat(folder).st_nlink == 2 and os.stat(f"{folder}/..").st_nlink > 2


def ascending(found: list[str], prefix: str, start_after: str, limit: int) -> Iterator[str]:
    """Keys and prefixes of these names that come after ``start_after``, in order."""
    left = [name for name in found if prefix + name > start_after] if start_after else found
    if len(left) > 8 * limit:  # the first few of many cost no sorting of all
        first = heapq.nsmallest(limit + 1, left)
        yield from (prefix + name for name in first)
        left = [name for name in left if name > first[-1]]
    yield from (prefix + name for name in sorted(left))


def page(root: str, keys: Iterator[str], limit: int, peek: int | None) -> Page:
    """A page of these keys and prefixes: of those that are there, up to ``limit``.

    Who peeks is looking for the first of that size, so the page ends with it.
    """
    entries: list[Entry] = []
    prefixes: list[str] = []
    for key in keys:
        if len(entries) + len(prefixes) >= limit:
            return Page(tuple(entries), tuple(prefixes), more=True)
        if key.endswith("/"):
            prefixes += [key] if _holds_something(f"{root}/{key}") else []
            continue
        entry = _entry(f"{root}/{key}", key, peek)
        if entry is None and peek is not None and os.path.isdir(f"{root}/{key}"):
            prefixes += [key + "/"] if _holds_something(f"{root}/{key}") else []
        if entry is not None:
            entries.append(entry)
            if peek is not None and entry.size >= peek:
                return Page(tuple(entries), tuple(prefixes), more=next(keys, None) is not None)
    return Page(tuple(entries), tuple(prefixes))


def _entry(path: str, key: str, peek: int | None) -> Entry | None:
    """What a listing shows of a file, with its bytes while it peeks; None if it went away."""
    if peek is not None:
        with suppress(OSError):  # a link, or not ours to read: whoever loads it is told so
            blob = read(path, 0, None, most=_TAGGED)
            return None if blob is None else Entry(key, blob.size, blob.tag, blob.data)
    with suppress(FileNotFoundError):
        return Entry(key, os.stat(path, follow_symlinks=False).st_size)
    return None


def _holds_something(path: str) -> bool:
    """Whether there is a file below: a writer may die between making a directory and using it."""
    folders: list[str] = []
    with suppress(*ABSENT), os.scandir(path) as children:
        for child in children:
            if not child.is_dir(follow_symlinks=False):
                return True
            folders.append(child.path)
    return any(map(_holds_something, folders))
