"""How far an operation has come: the events that ``on_progress`` is called with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal, Protocol

Operation = Literal["save", "load", "copy", "move", "read", "write"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far one operation on one object has come.

    ``object`` is its key as the operation was given it; with its mount, where a store found it.
    ``bytes`` counts its content that has been stored (or taken, by a writer of a stream), or
    verified and handed over;
    ``total`` is how much there is, None for a stream whose end is not known. ``files`` is of how
    many files the object is made. ``done`` is true for the last event, once the operation has
    succeeded, and for no other.

    A load that a store starts before it knows which mount is the one reports, too, and ends without
    a last event if it was another. ``bytes`` never falls, but for an operation that starts again,
    since its object was overwritten meanwhile or a service refused to copy it.
    """

    operation: Operation
    object: str
    bytes: int
    total: int | None
    files: int
    done: bool = False


class OnProgress(Protocol):
    """What is called with every event, in the event loop of the operation: it must be quick.

    What it raises goes to the loop's exception handler and ends the reports, not the operation: a
    broken bar must not cost an object.
    """

    def __call__(self, event: ProgressEvent, /) -> object: ...


class Meter:
    """Counts the bytes of one operation, and reports them."""

    def __init__(
        self, on_progress: OnProgress | None, operation: Operation = "load", key: str = ""
    ) -> None:
        self._on_progress = on_progress
        self._operation: Operation = operation
        self._key = key
        self._bytes = 0
        self._total: int | None = None
        self._files = 0

    @property
    def watched(self) -> bool:
        """Whether anybody wants to know."""
        return self._on_progress is not None

    def begin(self, total: int | None, files: int) -> None:
        """The size is known (or that it is not); nothing was moved yet."""
        self._bytes, self._total, self._files = 0, total, files
        self._report(done=False)

    def moved(self, size: int) -> None:
        """So many more bytes are stored, or were handed over."""
        if self._on_progress is None:
            return
        self._bytes += size
        if self._total is not None:  # a part may be read twice
            self._bytes = min(self._bytes, self._total)
        self._report(done=False)

    def end(self, *, whole: bool = True) -> None:
        """It has succeeded: with all of the bytes, or with those that were asked for."""
        if whole:
            self._total = self._bytes = self._bytes if self._total is None else self._total
        self._report(done=True)

    def _report(self, *, done: bool) -> None:
        if self._on_progress is None:
            return
        event = ProgressEvent(
            self._operation, self._key, self._bytes, self._total, self._files, done
        )
        try:
            self._on_progress(event)
        except Exception as error:
            self._on_progress = None
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"on_progress failed at {event}", "exception": error}
            )


UNWATCHED: Final = Meter(None)
"""Of an operation that nobody watches."""
