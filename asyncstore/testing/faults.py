"""A backend that fails as told: what a network, a disk or a gateway does once in a long while."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from asyncstore.backends.base import Backend, Blob, Buffer, PutReply, PutStatus
from asyncstore.backends.wrapper import Wrapper
from asyncstore.errors import BackendError, BackendTimeout

T = TypeVar("T")

Mode: TypeAlias = Literal[
    "conflict",
    "corrupt",
    "error",
    "hang",
    "lost",
    "no-space",
    "not-durable",
    "refused-after-own-write",
    "timeout",
    "truncate",
    "unknown",
    "zombie",
]
"""How a request fails.

========================== ================= ====================================================
mode                       of                what happens
========================== ================= ====================================================
error                      all               nothing is done; BackendError, FAILED of a put_if
timeout                    all               nothing is done; BackendTimeout, UNKNOWN of a put_if
hang                       all               nothing is done, and no answer comes
lost                       writes            it is done; BackendError, UNKNOWN of a put_if
no-space                   put, put_if       nothing is done; BackendError, FAILED of a put_if
unknown, conflict          put_if            nothing is done; UNKNOWN (a 5xx, a 409)
zombie                     put_if            UNKNOWN; it is sent at ``release()``
refused-after-own-write    put_if            it is done; REFUSED, as after a hidden re-send
not-durable                put_if            it is done; NOT_DURABLE
truncate                   get               half of the bytes, with the size of all
corrupt                    get               one bit is flipped
========================== ================= ====================================================
"""

_ALL: Final = frozenset({"get", "head", "list", "put", "put_if", "delete"})
MODES: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(get_args(Mode), frozenset({"put_if"})),
    **dict.fromkeys(("error", "timeout", "hang"), _ALL),
    **dict.fromkeys(("truncate", "corrupt"), frozenset({"get"})),
    "lost": frozenset({"put", "put_if", "delete"}),
    "no-space": frozenset({"put", "put_if"}),
}
"""Every mode, and the methods that it may happen to."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Which requests fail, and how.

    Requests whose method and key match the patterns (of :mod:`fnmatch`; a deletion matches with
    any of its keys) are counted; those from the ``nth`` on fail, ``times`` of them, or all of
    them where that is None. Methods that the mode makes no sense for are not counted.
    """

    mode: Mode
    method: str = "*"
    key: str = "*"
    nth: int = 1
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r}: expected one of {sorted(MODES)}")
        if not any(fnmatchcase(method, self.method) for method in MODES[self.mode]):
            raise ValueError(
                f"{self.mode!r} never happens to {self.method!r}: "
                f"expected one of {sorted(MODES[self.mode])}"
            )

    def matches(self, method: str, keys: Sequence[str]) -> bool:
        """Whether a request is one that is counted."""
        return (
            method in MODES[self.mode]
            and fnmatchcase(method, self.method)
            and any(fnmatchcase(key, self.key) for key in keys)
        )


class FaultyBackend(Wrapper):
    """A backend that fails exactly as the ``faults`` say; whatever they do not touch is passed on.

    ``injected`` counts by mode what was injected: it is false as long as nothing was, so that a
    test can assert that its fault came to pass.
    """

    def __init__(self, inner: Backend, *faults: Fault) -> None:
        super().__init__(inner)
        self.injected: Counter[str] = Counter()
        self._faults = list(faults)
        self._seen = [0] * len(faults)
        self._dice: Callable[[str], Mode | None] = lambda method: None
        self._zombies: list[Callable[[], Awaitable[PutReply]]] = []

    @classmethod
    def random(
        cls,
        inner: Backend,
        *,
        seed: int,
        rate: float,
        modes: Sequence[Mode] = (
            "conflict",
            "error",
            "lost",
            "refused-after-own-write",
            "timeout",
            "unknown",
        ),
    ) -> FaultyBackend:
        """A backend of which each request fails with probability ``rate``, in one of ``modes``.

        The same requests in the same order fail in the same way for the same ``seed``.
        """
        faulty = cls(inner)
        dice = random.Random(seed)

        def throw(method: str) -> Mode | None:
            possible: list[Mode] = [mode for mode in modes if method in MODES[mode]]
            hit, pick = dice.random() < rate, dice.random()
            return possible[int(pick * len(possible))] if hit and possible else None

        faulty._dice = throw
        return faulty

    def add(self, fault: Fault) -> None:
        """One more fault; it counts requests from now on."""
        self._faults.append(fault)
        self._seen.append(0)

    def clear(self) -> None:
        """No more faults, random ones included. Zombies stay."""
        self._faults.clear()
        self._seen.clear()
        self._dice = lambda method: None

    async def release(self) -> list[PutReply]:
        """Send all zombies now, in their order, and answer what became of them."""
        zombies, self._zombies = self._zombies, []
        return [await send() for send in zombies]

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Create or replace, or what the faults make of it."""
        kept = bytes(data)  # a zombie outlives the call and so the caller's buffer
        return await super().put_if(key, kept, tag=tag)

    async def passing(
        self, method: str, keys: Sequence[str], send: Callable[[], Awaitable[T]]
    ) -> T:
        """Pass the request on, or fail it."""
        mode = self._next(method, keys)
        if mode is None:
            return await send()
        what = f"injected {mode} of {method} {' '.join(keys)}"
        if mode in ("truncate", "corrupt"):
            return self._spoilt(mode, await send())
        self.injected[mode] += 1
        if mode == "hang":
            await asyncio.get_running_loop().create_future()
        if method == "put_if":
            reply: Any = await self._put_reply(mode, what, send)
            return reply  # type: ignore[no-any-return]
        if mode == "lost":
            await send()
        raise BackendTimeout(what) if mode == "timeout" else BackendError(what)

    def _next(self, method: str, keys: Sequence[str]) -> Mode | None:
        found: Mode | None = None
        for index, fault in enumerate(self._faults):
            if fault.matches(method, keys):
                self._seen[index] += 1
                past = self._seen[index] - fault.nth
                if past >= 0 and (fault.times is None or past < fault.times):
                    found = found or fault.mode
        return found or self._dice(method)

    async def _put_reply(
        self, mode: Mode, what: str, send: Callable[[], Awaitable[Any]]
    ) -> PutReply:
        error = BackendTimeout(what) if mode == "timeout" else BackendError(what)
        if mode in ("error", "no-space"):
            return PutReply(PutStatus.FAILED, error=error)
        if mode == "zombie":
            self._zombies.append(send)
        if mode not in ("lost", "refused-after-own-write", "not-durable"):
            return PutReply(PutStatus.UNKNOWN, error=error)
        reply: PutReply = await send()
        if mode == "lost":
            return PutReply(PutStatus.UNKNOWN, error=error)
        if reply.status is not PutStatus.DONE:
            return reply
        if mode == "not-durable":
            return PutReply(PutStatus.NOT_DURABLE, error=error)
        return PutReply(PutStatus.REFUSED)

    def _spoilt(self, mode: Mode, answer: T) -> T:
        if not isinstance(answer, Blob) or not answer.data:
            return answer  # there is nothing to spoil
        self.injected[mode] += 1
        data = bytearray(answer.data)
        middle = len(data) // 2
        if mode == "truncate":
            del data[middle:]
        else:
            data[middle] ^= 1
        return msgspec.structs.replace(answer, data=bytes(data))
