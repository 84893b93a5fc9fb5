"""Sees what code does besides answering: files it touches, modules it imports, code it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READ_ANYWHERE = (
    "/usr/share/zoneinfo",
    "/usr/lib/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
)
"""Where the time zones are: a stored value may name one, and none of these is a place to write."""

EXPECTED_IMPORTS = ("torch", "tzdata")
"""PyTorch, which is not needed to run this, is asked for by a name in the code; zones that the
system does not know are looked for in the package tzdata, below which nothing is but data."""

_NEVER = {
    "exec", "pickle.find_class", "marshal.loads", "marshal.load", "subprocess.Popen", "os.system",
    "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "ctypes.dlopen",
    "os.startfile",
    "socket.connect", "socket.bind", "socket.getaddrinfo", "code.__new__", "builtins.input",
    "os.symlink", "os.link", "os.chown", "os.setxattr", "os.putenv", "webbrowser.open", "os.kill",
}  # fmt: skip
_TOUCHING = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "os.truncate",
    "os.utime",
}
_LOOKING = {"os.listdir", "os.scandir"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """Collects what happened between arming and disarming that must not.

    The hook stays for the life of the process, which is why this runs in one of its own.
    """

    def __init__(self, *, reads: Sequence[Path], writes: Sequence[Path]) -> None:
        self._reads = tuple(map(str, (*reads, *writes, *READ_ANYWHERE)))
        self._writes = tuple(map(str, writes))
        self._armed = False
        self.seen: list[str] = []
        self._modules: set[str] = set()
        sys.addaudithook(self._hook)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Asked before anything is imported; finds nothing itself."""
        if self._armed and name.partition(".")[0] not in EXPECTED_IMPORTS:
            self.seen.append(f"import of {name}")

    @contextmanager
    def armed(self) -> Generator[None]:
        """Watch while this is entered."""
        self._armed = True
        try:
            yield
        finally:
            self._armed = False

    def learn_modules(self) -> None:
        """What has been imported by now was not imported because of what is stored."""
        self._modules = set(sys.modules)
        self.seen.clear()

    def new_modules(self) -> list[str]:
        """What has been imported since, but for what is expected."""
        new = set(sys.modules) - self._modules
        return sorted(name for name in new if name.partition(".")[0] not in EXPECTED_IMPORTS)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event in _NEVER:
            self.seen.append(f"{event}{args!r:.300}")
        elif event == "open":
            path, _, flags = args
            writing = bool(flags & _WRITING)
            self._check(event, path, writing, relative=not writing)
        elif event in _TOUCHING:
            for path in args[:2] if event == "os.rename" else args[:1]:
                # Relative to a folder that is open: rmtree at work, whose root was checked.
                self._check(event, path, True, relative=args[-1] not in (-1, None))
        elif event == "shutil.rmtree":
            self._check(event, args[0], True)
        elif event in _LOOKING and args[0] not in sys.path:  # where what is expected is looked for
            self._check(event, args[0], False)

    def _check(self, event: str, path: Any, writing: bool, *, relative: bool = False) -> None:
        if isinstance(path, int) or path is None:
            return
        text = os.fsdecode(path)
        if relative and text not in (".", "..") and "/" not in text:
            return
        folders = self._writes if writing else self._reads
        inside = text in folders or text.startswith(tuple(f"{folder}/" for folder in folders))
        if not inside or ".." in text.split("/"):
            self.seen.append(f"{event} of {text!a}")


def looks_of(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything in a folder by path: kind, size, identity, time of change, where a link leads."""
    found: dict[str, tuple[Any, ...]] = {}
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                leads = os.readlink(entry.path) if entry.is_symlink() else None
                found[entry.path] = (
                    status.st_mode, status.st_size, status.st_ino, status.st_mtime_ns, leads,
                )  # fmt: skip
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return found
