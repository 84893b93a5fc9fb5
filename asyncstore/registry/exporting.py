"""Writing stored files to a folder: all of them at once in sight, or nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from asyncstore.concurrency import by_turns, in_worker, task_of, to_the_end
from asyncstore.errors import AsyncStoreError, IntegrityError, MaterializationError
from asyncstore.record import FileEntry, Manifest
from asyncstore.registry.fetching import Fetched, chunk_of
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import Verify

_SMALL: Final = 1024 * 1024
_SMALL_AT_ONCE: Final = 8
_WRITES: Final = 4
"""Chunks of one file that are being fetched or written at once."""

_LARGE_AT_ONCE: Final = 2
"""Each has some pieces in memory."""
_PATIENCE: Final = 60.0

T = TypeVar("T")


async def export(
    o: Opened, fetched: Fetched, output_dir: str | os.PathLike[str], verify: Verify
) -> Path:
    """Write a stored file or folder, verified, and answer where it is.

    A file goes into ``output_dir`` under its own name, and replaces one of that name. What is in
    a folder goes into ``output_dir`` itself, which must be new or empty. It is written beside its
    place first and renamed when it is whole. No path of the record leads out of ``output_dir``:
    every record with such a path was refused when it was read, and nothing here follows links.

    Raises MaterializationError where the place is not free, and
    :class:`~asyncstore.registry.reading.Moved` where the version went away meanwhile.
    """
    manifest = fetched.manifest
    as_file = manifest.params.get("kind") == "file"
    name = _only_name(fetched.name, manifest) if as_file else None
    places: list[str] = []  # filled before anything is made, whoever is cancelled when
    try:
        staged, target = await _seen_through(_stage, os.fspath(output_dir), name, places)
        await _fill(o, fetched, staged, verify)
        await _seen_through(_publish, staged, target, as_file)
    except OSError as error:
        if isinstance(error, AsyncStoreError):
            raise
        raise MaterializationError(
            f"{fetched.name!r} cannot be written to {output_dir!s}: {error.strerror or error}"
        ) from error
    finally:
        for place in places:
            await _seen_through(shutil.rmtree, place, True)
    return Path(target)


async def _seen_through(job: Callable[..., T], *args: object) -> T:
    """A job in a worker thread that has ended when this returns, cancelled or not."""
    return await to_the_end(task_of(in_worker(job, *args), job.__name__), grace=_PATIENCE)


def _only_name(name: str, manifest: Manifest) -> str:
    paths = [entry.p for entry in manifest.files]
    if len(paths) != 1 or "/" in paths[0]:
        raise IntegrityError(f"{name!r} is stored as one file, and its record has {len(paths)}")
    return paths[0]


def _stage(output_dir: str, name: str | None, places: list[str]) -> tuple[str, str]:
    """A new folder that nobody else writes to, on the file system of the target; and the target."""
    root = os.path.abspath(output_dir)
    if name is not None:
        target, beside = f"{root}/{name}", root
        os.makedirs(root, exist_ok=True)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(target).st_mode):
                raise MaterializationError(
                    f"{target} is there and no plain file: choose another output_dir"
                )
    else:
        target, beside = root, os.path.dirname(root)
        os.makedirs(beside, exist_ok=True)
        _must_be_free(target)
    staged = f"{beside}/.asyncstore-{secrets.token_hex(8)}"
    places.append(staged)
    os.mkdir(staged)
    return staged, target


def _must_be_free(target: str) -> None:
    with suppress(FileNotFoundError):
        mode = os.lstat(target).st_mode
        if not stat.S_ISDIR(mode) or os.listdir(target):
            raise MaterializationError(
                f"{target} is there and no empty folder: what is stored as a folder goes to a "
                "place of its own"
            )


async def _fill(o: Opened, fetched: Fetched, staged: str, verify: Verify) -> None:
    manifest = fetched.manifest
    await _seen_through(_make_folders, staged, manifest)
    small = [entry for entry in manifest.files if entry.n <= _SMALL]
    large = [entry for entry in manifest.files if entry.n > _SMALL]
    write = partial(_write_file, o, fetched, staged, verify)
    await by_turns(_SMALL_AT_ONCE, (partial(write, entry) for entry in small))
    await by_turns(_LARGE_AT_ONCE, (partial(write, entry) for entry in large))


def _make_folders(staged: str, manifest: Manifest) -> None:
    parents = {path.rpartition("/")[0] for path in (entry.p for entry in manifest.files)}
    for path in sorted({*parents, *manifest.dirs} - {""}):
        os.makedirs(f"{staged}/{path}", exist_ok=True)


async def _write_file(
    o: Opened, fetched: Fetched, staged: str, verify: Verify, entry: FileEntry
) -> None:
    """Write a file chunk by chunk, some at once: each goes to its own place in the file."""
    path, count = f"{staged}/{entry.p}", len(entry.chunks)
    if count != 1:
        await _seen_through(_write_chunk, path, 0, b"", entry.x, True)

    async def one(at: int) -> None:
        chunk = await chunk_of(o, fetched.found, fetched.record, entry, at, verify)
        await _seen_through(_write_chunk, path, at * entry.s, chunk, entry.x, count == 1)
        o.meter.moved(len(chunk))

    calls = (partial(one, at) for at in range(count))
    await by_turns(_WRITES, calls)


def _write_chunk(path: str, at: int, data: bytes, executable: bool, create: bool) -> None:
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    if create:
        flags |= os.O_CREAT | os.O_EXCL
    fd = os.open(path, flags, 0o777 if executable else 0o666)
    try:
        view = memoryview(data)
        while view.nbytes:
            written = os.pwrite(fd, view, at)
            view, at = view[written:], at + written
    finally:
        os.close(fd)


def _publish(staged: str, target: str, as_file: bool) -> None:
    if as_file:
        os.replace(f"{staged}/{os.path.basename(target)}", target)
        return
    _must_be_free(target)
    os.rename(staged, target)  # takes the place of an empty folder, and of nothing else
