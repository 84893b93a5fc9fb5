"""When a request is sent again: how often, how soon, and how many in all. Pure but for the dice."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from asyncstore.errors import RegistrySettingsConflict

_RESERVE: Final = 10.0
"""Repetitions that may come before any request has paid for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How requests over a network are repeated. A commit is never repeated blindly.

    ``attempts``: how often one request is sent at most. ``first_delay`` and ``longest_delay``:
    seconds; before attempt n the pause is random, up to ``first_delay`` times 2 to the n
    ("full jitter", after M. Brooker, "Exponential Backoff and Jitter"). ``budget``: repetitions
    for each request, in the long run; a service that is down is not asked four times as often.

    ``hedge_after``: seconds after which a read (of an object, its size, or a listing) that has no
    answer is sent once more, and the first answer counts (J. Dean and L. Barroso, "The Tail at
    Scale"); None, the default, for never. ``hedge_budget``: such requests for each request.
    """

    attempts: int = 4
    first_delay: float = 0.05
    longest_delay: float = 2.0
    budget: float = 0.1
    hedge_after: float | None = None
    hedge_budget: float = 0.05

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise RegistrySettingsConflict(
                f"attempts={self.attempts!r}: expected a whole number of 1 or more"
            )
        for name in ("first_delay", "longest_delay", "budget", "hedge_budget"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value < float("inf"):
                raise RegistrySettingsConflict(f"{name}={value!r}: expected 0 or more")
        after = self.hedge_after
        if after is not None and (type(after) not in (int, float) or not after > 0):
            raise RegistrySettingsConflict(
                f"hedge_after={after!r}: expected seconds above 0, or None"
            )

    def delay(self, attempt: int) -> float:
        """Seconds to wait before the attempt of this number, the first repetition being 1."""
        # Not for secrets: the jitter only has to differ between clients.
        return random.uniform(0, min(self.longest_delay, self.first_delay * 2 ** min(attempt, 32)))


class Budget:
    """Repetitions that may still be made: each request pays for a part of one."""

    def __init__(self, rate: float, *, reserve: float = _RESERVE) -> None:
        self._rate = rate
        self._most = reserve
        self._left = reserve if rate else 0.0

    def pay(self) -> None:
        """Count a request that was sent for the first time."""
        if self._left < self._most:
            self._left = min(self._most, self._left + self._rate)

    def take(self) -> bool:
        """Whether one more repetition may be made; it is counted."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
