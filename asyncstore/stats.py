"""Counters of what a store's discoveries did and cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from asyncstore.verdicts import Failure, Hit, Outcome


@dataclass(slots=True)
class _Latency:
    count: int = 0
    total: float = 0.0
    longest: float = 0.0


@dataclass(slots=True)
class Stats:
    """Counts since the store was made; latencies are in seconds."""

    probes: int = 0
    hits: int = 0
    misses: int = 0
    errors: int = 0
    speculative_used: int = 0
    speculative_wasted: int = 0
    cache_hits: int = 0
    latency: dict[str, _Latency] = field(default_factory=dict[str, _Latency])

    def probed(self, location: str, outcome: Outcome, seconds: float) -> None:
        """A probe ended."""
        self.probes += 1
        if isinstance(outcome, Hit):
            self.hits += 1
        elif isinstance(outcome, Failure):
            self.errors += 1
        else:
            self.misses += 1
        latency = self.latency.setdefault(location, _Latency())
        latency.count += 1
        latency.total += seconds
        latency.longest = max(latency.longest, seconds)

    def speculated(self, started: int, *, used: bool) -> None:
        """A discovery started so many loads before it knew which one it needs."""
        self.speculative_used += used
        self.speculative_wasted += started - used

    def as_dict(self) -> dict[str, Any]:
        """A copy, as plain values."""
        return {
            "probes": self.probes,
            "hits": self.hits,
            "misses": self.misses,
            "errors": self.errors,
            "speculative_used": self.speculative_used,
            "speculative_wasted": self.speculative_wasted,
            "cache_hits": self.cache_hits,
            "latency": {
                location: {
                    "count": one.count,
                    "mean": one.total / one.count if one.count else 0.0,
                    "longest": one.longest,
                }
                for location, one in self.latency.items()
            },
        }
