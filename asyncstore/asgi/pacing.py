"""Turns at sending, so that many responses at once leave the event loop to others in between."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from anyio.lowlevel import RunVar

_AT_ONCE: Final = 4
"""Pieces that are sent between two looks of the event loop at everything else."""


class Pace:
    """Lets so many go on in each turn of the event loop, the others in the next ones, in order.

    asyncio runs all that is ready before it looks at anything else. Where some hundred clients
    take what they are sent as fast as it comes, all their responses are ready in every turn, and
    the pieces of all of them are one stall.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passing = False

    async def turn(self) -> None:
        """Wait for a turn; at the soonest it comes with the loop's next."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if not self._passing:
            self._passing = True
            loop.call_soon(self._pass)
        await mine

    def _pass(self) -> None:
        passed = 0
        while self._waiting and passed < _AT_ONCE:
            waiting = self._waiting.popleft()
            if not waiting.done():  # it may have been cancelled
                waiting.set_result(None)
                passed += 1
        self._passing = bool(self._waiting)
        if self._passing:
            asyncio.get_running_loop().call_soon(self._pass)


_PACE: Final = RunVar[Pace]("asyncstore.asgi.pace")


def pace_of_loop() -> Pace:
    """The pace that all responses of the running event loop share."""
    pace = _PACE.get(None)
    if pace is None:
        pace = Pace()
        _PACE.set(pace)
    return pace
