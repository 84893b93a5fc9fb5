"""The one function through which every commit goes, and the pure judgement inside it.

A refusal, a timeout or any exception of a conditional write is no proof that it was lost: the
first attempt may have landed and its reply been dropped (Icechunk, SlateDB and Iceberg each met
this). So every record carries a commit id of its own and the ids of its two predecessors, and
whatever is not a clear success is settled by reading the slot back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

from asyncstore.backends.base import Backend, CreatesNext, PutReply, PutStatus
from asyncstore.backends.bounded import BoundedBackend
from asyncstore.concurrency import as_value, backoff, both, task_of, to_the_end
from asyncstore.errors import (
    BackendCapabilityError,
    BackendError,
    CommitUnknown,
    IntegrityError,
    UnsupportedFormatError,
)
from asyncstore.record import LINE_SIZE, NO_COMMIT, Line, read_line

COMMIT_GRACE: Final = 5.0
"""Seconds that a commit goes on after its caller was cancelled."""

_MOST_REFUSALS: Final = 8


class Verdict(Enum):
    """What one attempt and its read-back prove."""

    OURS = "ours"
    LOST = "lost"
    RESEND = "resend"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Slot:
    """What a commit is to replace: nothing, or the record of this line, which has this tag.

    ``newest`` is for a commit that comes next: the key that must still be the first beside it,
    looked at in the same request by a backend that :class:`CreatesNext`.
    """

    line: Line | None = None
    tag: str | None = None
    newest: str | None = None

    @property
    def commit(self) -> str:
        """The commit id that is expected in the slot; zeros for none."""
        return self.line.commit if self.line else NO_COMMIT


@dataclass(frozen=True, slots=True)
class Settled:
    """How a commit ended: ours, or lost to the record of ``current`` (None: overtaken).

    ``beside`` is what the caller had looked up while the slot was read back.
    """

    ours: bool
    current: Line | None = None
    beside: object = None


def judge(commit: str, expected: str, current: Line | None, *, in_doubt: bool) -> Verdict:
    """What the slot, read back after an attempt that was not done, proves of it.

    ``expected`` is the commit id that was to be replaced (zeros: none), ``current`` what is there
    now (None: nothing), ``in_doubt`` whether any attempt so far may still be under way or have
    landed unseen. Proven exhaustively in ``tests/test_commit.py``.
    """
    if current is not None and commit in current.commits:
        return Verdict.OURS  # landed, perhaps already replaced
    if (current.commit if current else NO_COMMIT) == expected:
        return Verdict.RESEND  # unchanged; a negative read proves nothing
    if not in_doubt:
        return Verdict.LOST
    if current is not None and expected in (current.prev, current.prev2):
        return Verdict.LOST  # another commit replaced exactly what ours would have replaced
    return Verdict.UNKNOWN


async def settle(
    backend: Backend,
    key: str,
    record: bytes,
    *,
    commit: str,
    over: Slot,
    deadline: float,
    lost: Callable[[], None] | None = None,
    beside: Callable[[], Coroutine[Any, Any, object]] | None = None,
) -> Settled:
    """Commit ``record``, and learn for certain whether it was: all or nothing, once.

    The same bytes are sent each time, until the slot proves them ours or lost, or the loop's
    clock passes ``deadline``. Raises CommitUnknown where neither can be proven, and BackendError
    where the write provably was not applied. Cancellation lets the commit end first (at most
    5 seconds), so that it is never torn from its read-back. ``lost`` is called where it ended
    provably not applied, whether or not the caller was cancelled meanwhile. ``beside`` is run
    along with each read-back: what a loser needs to go on costs it no further round trip.
    """
    work = _settle(backend, key, record, commit, over, deadline, beside)
    task = task_of(work, f"commit {key}")
    try:
        return await to_the_end(task, grace=COMMIT_GRACE)
    finally:
        if lost is not None and _is_lost(task):
            lost()


def _is_lost(task: asyncio.Task[Settled]) -> bool:
    if not task.done() or task.cancelled():
        return False
    error = task.exception()
    if error is None:
        return not task.result().ours
    return isinstance(error, BackendError) and not isinstance(error, CommitUnknown)


async def _settle(
    backend: Backend,
    key: str,
    record: bytes,
    commit: str,
    over: Slot,
    deadline: float,
    beside: Callable[[], Coroutine[Any, Any, object]] | None = None,
) -> Settled:
    in_doubt = False
    attempt = refusals = 0
    last: BackendError | None = None
    try:
        while attempt == 0 or asyncio.get_running_loop().time() < deadline:
            reply = await _put(backend, key, record, over)
            if reply.status is PutStatus.DONE:
                return Settled(True)
            if reply.status is PutStatus.OVERTAKEN and not in_doubt:
                return Settled(False)
            last = reply.error
            in_doubt |= reply.status is PutStatus.UNKNOWN
            _raise_if_final(reply, in_doubt, key, commit)
            found: object = None
            try:
                if beside is None:
                    current = await read_slot(backend, key)
                else:
                    current, found = await both(read_slot(backend, key), as_value(beside))
            except BackendError as error:
                in_doubt, last = True, error
            except (IntegrityError, UnsupportedFormatError):
                if in_doubt:
                    break  # what is there cannot be read, and ours may have been before it
                raise
            else:
                verdict = judge(commit, over.commit, current, in_doubt=in_doubt)
                if verdict in (Verdict.OURS, Verdict.LOST):
                    return Settled(verdict is Verdict.OURS, current, found)
                if verdict is Verdict.UNKNOWN:
                    break
                refusals += reply.status is PutStatus.REFUSED
                if refusals >= _MOST_REFUSALS and not in_doubt:
                    raise BackendCapabilityError(
                        f"{backend.uri} refused to write {key} {refusals} times though nothing "
                        "stood in its way: it does not keep its promise of conditional writes"
                    )
            await backoff(attempt, most=1.0)
            attempt += 1
    except asyncio.CancelledError as error:
        raise _unknown(backend, key, commit, over, last) from error
    raise _unknown(backend, key, commit, over, last) from last


async def _put(backend: Backend, key: str, record: bytes, over: Slot) -> PutReply:
    if over.newest is not None:  # only where the backend can
        return await cast("CreatesNext", backend).put_next(key, record, newest=over.newest)
    return await backend.put_if(key, record, tag=over.tag)


def _raise_if_final(reply: PutReply, in_doubt: bool, key: str, commit: str) -> None:
    if reply.status is PutStatus.FAILED and not in_doubt:
        raise reply.error or BackendError(f"{key} could not be written")
    if reply.status is PutStatus.NOT_DURABLE:
        # Read-back proves visibility, not durability, so there is nothing to settle.
        raise CommitUnknown(
            f"{key} was written, but could not be flushed to the disk ({reply.error}): it may not "
            "survive a power failure. Nothing was rolled back",
            commit=commit,
        ) from reply.error


async def read_slot(backend: Backend, key: str) -> Line | None:
    """The first line of the record under ``key``, or None where there is none."""
    blob = await backend.get(key, length=LINE_SIZE)
    return None if blob is None else read_line(blob.data, f"{backend.uri}/{key}")


def _unknown(
    backend: Backend, key: str, commit: str, over: Slot, last: BackendError | None
) -> CommitUnknown:
    # Asked later, when the time of the operation is over.
    later = backend.until(None) if isinstance(backend, BoundedBackend) else backend

    async def resolve() -> bool | None:
        verdict = judge(commit, over.commit, await read_slot(later, key), in_doubt=True)
        return {Verdict.OURS: True, Verdict.LOST: False}.get(verdict)

    return CommitUnknown(
        f"whether {key} was written could not be learned in time ({last or 'no answer'}). Nothing "
        "was rolled back: it is wholly there or not at all; await the error's resolve() to ask "
        "again, or load it",
        commit=commit,
        resolver=resolve,
    )
