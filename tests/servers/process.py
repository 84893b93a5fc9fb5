"""Servers as child processes, which end with the process that started them.

A server prints one line, ``ready`` and a text such as its port, when it can be used. The parent
then keeps nothing of it open: a test that starts the server of the whole session leaks nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ROOT = Path(__file__).parents[2]
_PARENT = "ASYNCSTORE_SERVER_PARENT"


class ServerError(Exception):
    """A server could not be started; the message has what it printed as errors."""


class Server:
    """A server in a child process: ready when :meth:`start` returns, gone when :meth:`stop` does.

    Args:
        command: what to run. It prints ``ready TEXT`` on its standard output, and nothing after it.
        seconds: how long it may take to be ready.
    """

    def __init__(self, command: Sequence[str], *, seconds: float = 30.0) -> None:
        self.command = list(command)
        self.text = ""
        self._seconds = seconds
        self._child: subprocess.Popen[str] | None = None
        self._errors: Path | None = None

    @classmethod
    def of(cls, module: str, *arguments: str, seconds: float = 30.0) -> Self:
        """A server that is a module of this project, such as ``tests.servers.moto``."""
        return cls([sys.executable, "-m", module, *arguments], seconds=seconds)

    @property
    def port(self) -> int:
        """The port, where the text after ``ready`` is one."""
        return int(self.text)

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._child is not None, "the server is not running"
        return self._child.pid

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            ServerError: it ended, or was not ready in time. Nothing is left running.
        """
        assert self._child is None, "the server is running already"
        handle, name = tempfile.mkstemp(prefix="asyncstore-server-", suffix=".log")
        self._errors = Path(name)
        # A file, not a pipe: nobody reads it, and a pipe that nobody reads stops who writes to it.
        with open(handle, "w") as errors:
            self._child = subprocess.Popen(
                self.command,
                cwd=_ROOT,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self._first_line()
        if line is None or not line.startswith("ready"):
            problem = "ended" if not line else f"printed {line!r} instead of ready"
            if line is None:
                problem = f"was not ready in {self._seconds} s"
            printed = self.errors()
            self.stop()
            raise ServerError(f"{self.command} {problem}\n{printed}")
        self.text = line.removeprefix("ready").strip()

    def _first_line(self) -> str | None:
        """The line that the child prints; empty when it ended without, None when time is over."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        found: list[str] = []
        stdout = child.stdout
        # A pipe cannot be read with a time limit on every system; a thread can be waited for.
        reader = threading.Thread(target=lambda: found.append(stdout.readline()), daemon=True)
        reader.start()
        reader.join(self._seconds)
        if reader.is_alive():
            child.kill()  # which ends its output, and so the thread
            reader.join()
            found.clear()
        elif not found[0]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)  # it closed its output, so it is about to end
        stdout.close()
        return found[0].strip() if found else None

    def errors(self) -> str:
        """What it printed as errors until now."""
        return self._errors.read_text(errors="replace") if self._errors is not None else ""

    def stop(self, *, patience: float = 5.0) -> None:
        """End it, by force if it has not ended after ``patience`` seconds; does nothing twice."""
        if self._child is not None:
            end(self._child, patience=patience)
            self._child = None
        if self._errors is not None:
            self._errors.unlink(missing_ok=True)
            self._errors = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def end(child: subprocess.Popen[Any], *, patience: float = 5.0) -> None:
    """End a child process and wait until it is gone, by force after ``patience`` seconds."""
    child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def child_environment() -> dict[str, str]:
    """The environment for a child that is to end when this process does."""
    return {**os.environ, _PARENT: str(os.getpid())}


def say_ready(text: object) -> None:
    """What a server calls when it can be used, with its port or whatever its users have to know."""
    print(f"ready {text}", flush=True)


def wait_for_orphanhood(*, interval: float = 0.2) -> None:
    """Return when the process that started this one has ended.

    It looks at who the parent is, rather than waiting for an end of its input: a pipe would stay
    open in the parent for as long as the server runs, and in whatever the parent forks. Systems
    without adoption of orphans (Windows) do not tell; there the server ends when it is stopped.
    """
    parent = int(os.environ.get(_PARENT, os.getppid()))
    while os.getppid() == parent:
        time.sleep(interval)


def end_with_parent() -> None:
    """End this process, whatever it is doing, when the one that started it has ended."""

    def watch() -> None:
        wait_for_orphanhood()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
