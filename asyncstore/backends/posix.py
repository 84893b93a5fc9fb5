"""The file system work of the local backend: plain functions, each run whole in one worker hop.

Creation stages a file, flushes it, links it into place and flushes the directory (maildir's way,
with durability); replacement does the same with rename, under a short ``flock`` of the directory's
lock file, which the kernel releases when its process dies. A failed fsync is never retried: the
page may be marked clean already.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from asyncstore.backends.base import Blob, Buffer, Entry, Page, PutReply, PutStatus, check_key
from asyncstore.backends.scanning import ABSENT, ascending, names, page, read, tag_of
from asyncstore.errors import BackendError, BackendTimeout

T = TypeVar("T")

STAGING: Final = "t"
LOCKS: Final = "l"
STALE_STAGING: Final = 3600.0
"""Seconds after which a staged file belongs to nobody: its writer died."""

_PIECE: Final = 8 * 1024 * 1024
_PATIENCE: Final = 100
_MOST_REMEMBERED: Final = 100_000
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NOT_APPLIED: Final = {errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT}
"""With these a link or rename was refused before it began; any other error proves nothing."""


class Busy(Exception):
    """The lock is held by somebody else right now; try again in a moment."""


def mapped(error: OSError, what: str) -> BackendError:
    """The one place where the file system's errors become ours."""
    if isinstance(error, BackendError):
        return error
    kind = BackendTimeout if error.errno == errno.ETIMEDOUT else BackendError
    return kind(f"{what}: {error.strerror or error} ({errno.errorcode.get(error.errno or 0, '?')})")


class Directory:
    """One root directory, and how hard its files are flushed (``durable`` or not)."""

    def __init__(self, root: str, *, durable: bool) -> None:
        self.root = root
        self._durable = durable
        self._flushed: set[str] = set()
        self._replaced: set[str] = set()
        self._identity: tuple[int, int] | None = None

    def path(self, key: str) -> str:
        """The path of a key; nothing outside the root has one."""
        check_key(key)
        if self._identity is None:  # learnt at the first use, not at the first miss
            self.check_root()
        return f"{self.root}/{key}"

    def get(self, key: str, start: int, length: int | None) -> Blob | None:
        """Read a range; None only where the file is not in the directory that holds the rest."""
        blob = read(self.path(key), start, length)
        if blob is None:
            self.check_root()
        return blob

    def head(self, key: str) -> Entry | None:
        """The size of a file."""
        with suppress(*ABSENT):
            status = os.stat(self.path(key), follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                return Entry(key, status.st_size)
        self.check_root()
        return None

    def create(self, key: str, data: Buffer) -> PutReply:
        """Write and link, so that the name appears with all of the bytes, once."""
        try:
            path = self.path(key)
            with self._staged(data) as staged:
                return self._link(staged, path)
        except OSError as error:
            return PutReply(PutStatus.FAILED, error=mapped(error, f"creating {key}"))

    def create_next(self, key: str, data: Buffer, newest: str) -> PutReply:
        """Create, if ``newest`` is still the first of the directory that both are in."""
        try:
            folder = os.path.dirname(self.path(key))
            found = self._unhidden(folder, lambda: names(folder, files=True)) or []
        except OSError as error:
            return PutReply(PutStatus.FAILED, error=mapped(error, f"creating {key}"))
        if min(found, default="") != newest.rpartition("/")[2]:
            return PutReply(PutStatus.OVERTAKEN)
        return self.create(key, data)

    def _link(self, staged: str, path: str) -> PutReply:
        try:
            self._place(path, lambda: os.link(staged, path))
        except FileExistsError:
            return self._refused(path)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return self._create_locked(staged, path)
            return _unplaced(error, f"creating {path}")
        return self._flushed_reply(path, "")

    def _create_locked(self, staged: str, path: str) -> PutReply:
        """Create where there are no hard links: look and rename, under the lock."""
        with self.locked(path, fcntl.LOCK_EX):
            if os.path.lexists(path):
                return self._refused(path)
            try:
                os.rename(staged, path)
            except OSError as error:
                return _unplaced(error, f"creating {path}")
        return self._flushed_reply(path, "")

    def _refused(self, path: str) -> PutReply:
        # Whoever is told "it is there" may build on it: it must survive a power failure.
        self.flush_directory(os.path.dirname(path))
        return PutReply(PutStatus.REFUSED)

    def replace(self, key: str, data: Buffer, tag: str) -> PutReply:
        """Rename over the file that has this tag. Raises Busy while another process does so."""
        try:
            path = self.path(key)
            with self._staged(data) as staged, self.locked(path, fcntl.LOCK_EX):
                current = read(path, 0, None)
                if current is None:
                    self.check_root()
                    return PutReply(PutStatus.REFUSED)
                if not tag or current.tag != tag:
                    return self._refused(path)
                try:
                    os.rename(staged, path)
                except OSError as error:
                    return _unplaced(error, f"replacing {path}")
        except OSError as error:
            return PutReply(PutStatus.FAILED, error=mapped(error, f"replacing {key}"))
        return self._flushed_reply(path, tag_of(bytes(data)))

    def write(self, key: str, data: Buffer) -> None:
        """Store whatever was there before, all or nothing."""
        self.path(key)  # a key that is none leaves no trace
        with self._staged(data) as staged:
            self.publish(staged, key)

    def publish(self, staged: str, key: str) -> None:
        """Move a staged and flushed file to its key."""
        path = self.path(key)
        self._place(path, lambda: os.rename(staged, path))
        self.flush_directory(os.path.dirname(path))

    def _place(self, path: str, step: Callable[[], None]) -> None:
        """Take the step that needs the directory of ``path``, which a deletion may remove."""
        for left in reversed(range(_PATIENCE)):
            try:
                self._prepare(path)
                step()
                return
            except FileNotFoundError:
                self.check_root()
                if not left:
                    raise
                folder = path
                while (folder := os.path.dirname(folder)) != self.root:
                    self._flushed.discard(folder)

    def _prepare(self, path: str) -> None:
        """Make the directories of ``path``; what goes wrong here is no doubt about ``path``."""
        try:
            self._make_parents(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise mapped(error, f"making the directories of {path}") from error

    def stage(self) -> str:
        """A new path in the staging directory, which is inside the root so that links work."""
        self.check_root()
        folder = f"{self.root}/{STAGING}"
        if folder not in self._flushed or not os.path.isdir(folder):
            self._flushed.discard(folder)
            self._make_parents(f"{folder}/x")
            _sweep(folder)
        return f"{folder}/{secrets.token_hex(16)}"

    def discard(self, staged: str) -> None:
        """Remove a staged file, if it is still there; the sweep has what cannot be removed."""
        with suppress(OSError):
            os.unlink(staged)

    @contextmanager
    def _staged(self, data: Buffer) -> Generator[str]:
        staged = self.stage()
        try:
            self._fill(staged, data)
            yield staged
        finally:
            self.discard(staged)

    def flush_file(self, fd: int) -> None:
        """Flush a file to the disk itself."""
        if not self._durable:
            return
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)

    def flush_directory(self, path: str) -> None:
        """Flush a directory's entries to the disk."""
        if not self._durable:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _flushed_reply(self, path: str, tag: str) -> PutReply:
        try:
            self.flush_directory(os.path.dirname(path))
        except OSError as error:
            return PutReply(PutStatus.NOT_DURABLE, error=mapped(error, f"flushing {path}"))
        return PutReply(PutStatus.DONE, tag)

    def _fill(self, staged: str, data: Buffer) -> None:
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            view = memoryview(data).cast("B")
            while view.nbytes:
                view = view[os.write(fd, view[:_PIECE]) :]
            self.flush_file(fd)
        finally:
            os.close(fd)

    def _make_parents(self, path: str) -> None:
        """Make the directories of ``path``, each flushed into its own parent.

        One that exists already may have been made by a process that has not flushed it yet, so
        each is flushed once by every process that builds on it.
        """
        folder = os.path.dirname(path)
        if folder in self._flushed:
            return
        if folder == self.root:
            self._make_root()
        else:
            self._make_parents(folder)
            with suppress(FileExistsError):
                os.mkdir(folder)
            refuse_link(folder)
            self.flush_directory(os.path.dirname(folder))
        if len(self._flushed) > _MOST_REMEMBERED:  # forgetting costs a flush, never safety
            self._flushed.clear()
        self._flushed.add(folder)

    def _make_root(self) -> None:
        self.check_root()
        root = Path(self.root)
        missing = [path for path in (root, *root.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            self.flush_directory(str(path.parent))
        if not missing and root.stat().st_dev == root.parent.stat().st_dev:
            with suppress(PermissionError):  # not ours to read, so it was not made just now
                self.flush_directory(str(root.parent))
        self.check_root()

    def check_root(self) -> None:
        """Raise BackendError where the root is no longer the directory that it was.

        An unmounted disk leaves an empty directory or none: "not there" must not be read off it,
        and nothing may be written beneath it. Asked before every write, and where something was
        not found.
        """
        known = self._identity  # before looking: another thread may be making the root just now
        try:
            status = os.stat(self.root)
        except FileNotFoundError:
            found = None
        else:
            if not stat.S_ISDIR(status.st_mode):
                raise BackendError(f"{self.root} is a file, where a directory was expected")
            found = (status.st_dev, status.st_ino)
        if known is None:
            self._identity = self._identity or found
        elif found != known:
            raise BackendError(
                f"{self.root} is not the directory that it was: is its disk unmounted? Open the "
                "registry anew if it was replaced on purpose"
            )

    @contextmanager
    def locked(self, path: str, mode: int) -> Generator[None]:
        """Hold the lock of the directory that ``path`` is in; raises Busy, never waits."""
        lock = self._lock_path(os.path.dirname(path))
        if mode == fcntl.LOCK_EX:
            self._make_parents(lock)
        flags = os.O_RDONLY if mode == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a planted pipe would wait
        fd = os.open(lock, flags, 0o666)
        try:
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(lock) from None
            try:
                yield
            finally:  # closing alone leaves the lock to a child that was forked meanwhile
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _lock_path(self, folder: str) -> str:
        # The root may go by several names, so its own does not tell the lock of what is in it.
        name = os.path.basename(folder) if folder != self.root else "_"
        return f"{self.root}/{LOCKS}/{name}"

    def _names(self, folder: str) -> list[str]:
        found = names(folder)
        self.check_root()  # what is not shown is said not to be there
        return found or []

    def list(self, prefix: str, start_after: str, limit: int, peek: int | None, deep: bool) -> Page:
        """One page of a directory, read at one moment as far as replacing goes.

        Where anything was ever replaced there is a lock file; then the lock is shared for the
        time of the scan, because a rename over a file may hide it from a scan under way.
        """
        folder = self.path(prefix.removesuffix("/"))
        if start_after.endswith("/"):
            start_after += "\U0010ffff"  # nothing below it comes after a prefix
        if deep:
            return page(self.root, self._walk(folder, prefix, start_after), limit, peek)

        def scan() -> Page:
            keys = ascending(
                names(folder, files=peek is not None) or [], prefix, start_after, limit
            )
            found = page(self.root, keys, limit, peek)
            if not any(entry.data is not None for entry in found.entries):
                self.check_root()  # what is not shown is said not to be there
            return found

        return self._unhidden(folder, scan)

    def _unhidden(self, folder: str, scan: Callable[[], T]) -> T:
        """What ``scan`` reads of the directory while nothing in it is being replaced."""
        lock = self._lock_path(folder)
        if lock not in self._replaced:
            found = scan()
            if not os.access(lock, os.F_OK):  # lock files stay: nothing was replaced before either
                return found
            if len(self._replaced) > _MOST_REMEMBERED:
                self._replaced.clear()
            self._replaced.add(lock)
        with self.locked(f"{folder}/x", fcntl.LOCK_SH):
            return scan()

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[str]:
        """Keys at any depth below ``prefix`` after ``start_after``, in order."""
        for name in sorted(self._names_unhidden(folder)):
            key = prefix + name
            if not name.endswith("/"):
                if key > start_after:
                    yield key
            elif key > start_after or start_after.startswith(key):
                yield from self._walk(f"{folder}/{name[:-1]}", key, start_after)

    def _names_unhidden(self, folder: str) -> Sequence[str]:
        for _ in range(_PATIENCE):  # a writer holds one lock for microseconds; a walk takes many
            with suppress(Busy):
                return self._unhidden(folder, lambda: self._names(folder))
            time.sleep(0.001)
        raise Busy(folder)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove files, and the directories that this leaves empty where payload was."""
        for path in [self.path(key) for key in keys]:
            folder = path
            while (folder := os.path.dirname(folder)) != self.root:
                refuse_link(folder)
            try:
                os.unlink(path)
            except ABSENT:
                self.check_root()
                continue
            except IsADirectoryError:
                continue
            folder = os.path.dirname(path)
            if folder != self.root:
                with suppress(OSError):  # not empty, or gone already
                    os.rmdir(folder)
                    self._flushed.discard(folder)


def refuse_link(folder: str) -> None:
    """Raise BackendError for a directory that is a link: what it leads to is not ours to change."""
    if os.path.islink(folder):
        raise BackendError(f"{folder} is a symbolic link, where a directory was expected")


def _unplaced(error: OSError, what: str) -> PutReply:
    """What a link or rename that raised this tells; a directory that is gone may be remade."""
    before = isinstance(error, BackendError) or error.errno in _NOT_APPLIED
    status = PutStatus.FAILED if before else PutStatus.UNKNOWN
    return PutReply(status, error=mapped(error, what))


def _sweep(folder: str) -> None:
    """Remove what killed writers left behind; nobody else would."""
    with suppress(OSError), os.scandir(folder) as staged:
        for entry in staged:
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_ctime > STALE_STAGING:
                    os.unlink(entry.path)
