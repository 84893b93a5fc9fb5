"""What a backend really does with conditions and listings, found out by trying.

Several services take the headers of a conditional write and ignore them, or judge them without
atomicity, so that two writers both win (https://github.com/gaul/undocumented-s3-apis and the
capability table of docs/s3.md list which). Nothing is trusted to such a service.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from asyncstore.backends.base import Backend, PutReply, PutStatus
from asyncstore.concurrency import to_the_end, together
from asyncstore.errors import BackendCapabilityError, BackendError

PROBE: Final = "asv.probe"
"""The key of :func:`confirm`; never the registry's settings, which a cheat would overwrite."""

_RACERS: Final = 16
_SIZE: Final = 180
"""Bytes of a tombstone, which listings tell by its size."""
_PLACE: Final = "p"
_CLEAN_UP_GRACE: Final = 5.0
_OR_ALONE: Final = (
    ", or pass unsafe_single_writer=True if one process alone, and one task of it at a time, will "
    "ever write there"
)


@dataclass(frozen=True)
class BackendReport:
    """What :func:`asyncstore.check_backend` saw; ``faults`` is empty where all is as it must be.

    ``create``: one of 16 concurrent creations won, and a later one was refused.
    ``replace``: the same for replacements, and a stale tag was refused.
    ``ordered``: a listing came in order, and ``exact``: with the sizes that were written.
    """

    uri: str
    create: bool
    replace: bool
    ordered: bool
    exact: bool
    faults: tuple[str, ...] = ()

    def raise_for_faults(self) -> None:
        """Raise BackendCapabilityError if a registry cannot be kept there safely."""
        if self.faults:
            helps = self.ordered and self.exact
            raise BackendCapabilityError(
                f"{self.uri} is no safe place for a registry: {'; '.join(self.faults)}. Use "
                f"another service{_OR_ALONE if helps else ''}"
            )


async def probe_backend(backend: Backend) -> BackendReport:
    """Try out what the commit protocol stands on, in some 40 small requests, and clean up.

    16 concurrent creations and 16 concurrent replacements of one key, a stale tag, the order of a
    listing, and the exact sizes in it. Raises BackendError where the backend cannot be reached or
    written at all: then nothing is known.
    """
    place = f"{_PLACE}/{secrets.token_hex(8)}/"
    keys = [f"{place}{name}" for name in ("a", "b", "c")]
    faults: list[str] = []
    try:
        create = await _races_to_create(backend, keys[0], faults)
        replace = await _races_to_replace(backend, keys[0], faults)
        await together(*(backend.put(key, bytes(_SIZE)) for key in reversed(keys)))
        ordered, sizes = await _listing(backend, place, keys, faults)
        blob = await backend.get(keys[0])
        sizes.add(len(blob.data) if blob else 0)
    except BaseException:
        with suppress(BackendError):  # what went wrong first is what is told
            await _clean_up(backend, keys)
        raise
    await _clean_up(backend, keys)
    exact = sizes == {_SIZE}
    if not exact:
        faults.append(f"{_SIZE} bytes were stored and came back as {sorted(sizes)}")
    return BackendReport(backend.uri, create, replace, ordered, exact, tuple(faults))


async def _clean_up(backend: Backend, keys: list[str]) -> None:
    """Remove what was written, even for a caller that was cancelled."""
    await to_the_end(backend.delete(keys), grace=_CLEAN_UP_GRACE)


async def _listing(
    backend: Backend, place: str, keys: list[str], faults: list[str]
) -> tuple[bool, set[int]]:
    """Whether these keys are listed in order, and the sizes that are listed."""
    try:
        page = await backend.list(place, limit=8)
    except BackendCapabilityError as error:
        faults.append(str(error))
        return False, set()
    shown = [entry.key for entry in page.entries]
    if shown != keys:
        faults.append(f"three objects were listed as {[key[len(place) :] for key in shown]}")
    return shown == keys, {entry.size for entry in page.entries}


async def _races_to_create(backend: Backend, key: str, faults: list[str]) -> bool:
    replies = await _race(backend, key, None)
    winners = _done(replies)
    late = await backend.put_if(key, _content("late"), tag=None)
    if winners == 1 and late.status is not PutStatus.DONE:
        return True
    faults.append(_told("create an object that must not exist (If-None-Match)", winners, replies))
    return False


async def _races_to_replace(backend: Backend, key: str, faults: list[str]) -> bool:
    await backend.put(key, _content("before"))
    blob = await backend.get(key)
    if blob is None:
        raise BackendError(f"{backend.uri}: what was just written is not there")
    # One alone first: it may have to learn how the service wants its tags.
    first = await backend.put_if(key, _content("first"), tag=blob.tag)
    blob = await backend.get(key)
    if blob is None:
        raise BackendError(f"{backend.uri}: what was just written is not there")
    replies = await _race(backend, key, blob.tag)
    winners = _done(replies)
    stale = await backend.put_if(key, _content("stale"), tag=blob.tag)
    if first.status is PutStatus.DONE and winners == 1 and stale.status is not PutStatus.DONE:
        return True
    if first.status is not PutStatus.DONE:
        winners, replies = 0, [first]
    faults.append(_told("replace an object that has this ETag (If-Match)", winners, replies))
    return False


async def _race(backend: Backend, key: str, tag: str | None) -> list[PutReply]:
    return await together(
        *(backend.put_if(key, _content(str(racer)), tag=tag) for racer in range(_RACERS))
    )


def _content(text: str) -> bytes:
    """All of one size, so that a tag which tells the size alone is found out."""
    return text.encode().ljust(8)


def _done(replies: list[PutReply]) -> int:
    return sum(reply.status is PutStatus.DONE for reply in replies)


def _told(what: str, winners: int, replies: list[PutReply]) -> str:
    errors = [reply.error for reply in replies if reply.error is not None]
    because = f" ({errors[0]})" if not winners and errors else ""
    count = "a stale or later one succeeded" if winners == 1 else f"{winners} were told they did"
    return f"of {len(replies)} to {what} exactly one must succeed, and {count}{because}"


async def confirm(backend: Backend) -> bool:
    """Ask once whether creation is conditional, before the first write of a process.

    A service behind the same address may have been exchanged since the registry was made. One
    request, where the probe is there already. False where there was no answer that tells: then
    the commit will see, and the next write asks again.
    """
    for _ in range(2):
        reply = await backend.put_if(PROBE, b"probe", tag=None)
        if reply.status is not PutStatus.DONE:
            return reply.status is PutStatus.REFUSED
    raise BackendCapabilityError(
        f"{backend.uri} created {PROBE} twice: it ignores If-None-Match, so two writers would "
        f"overwrite each other. Use another service{_OR_ALONE}"
    )
