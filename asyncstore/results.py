"""What operations answer besides plain values: batches, and objects with where they came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from asyncstore.concurrency import together

_AT_ONCE: Final = 256
"""Items of a batch under way at once; the requests they make are bounded elsewhere."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """A loaded object, and where it came from.

    ``key`` names exactly this version. ``location`` is None where a registry was asked directly.
    ``hash`` is the SHA-256 over the object's files; ``created`` is in UTC and survives copies.
    """

    value: Any
    key: str
    location: str | None
    name: str
    version: str
    hash: str
    metadata: Mapping[str, Any]
    created: datetime


@dataclass(frozen=True, slots=True)
class BatchResult(Sequence[Any]):
    """One answer or one error for every item of a batch, in the order of the input.

    ``results`` holds None where an item failed, ``errors`` its error by position. Indexing and
    iteration give the result of an item, or raise its error.
    """

    results: list[Any]
    errors: dict[int, Exception]
    keys: list[Any] = field(default_factory=list[Any])
    skipped: list[Any] = field(default_factory=list[Any])

    @property
    def succeeded(self) -> list[Any]:
        """The keys of the items that did not fail; a skip is no failure."""
        return [key for at, key in enumerate(self.keys) if at not in self.errors]

    @property
    def failed(self) -> list[Any]:
        """The keys of the items that failed."""
        return [self.keys[at] for at in sorted(self.errors)]

    @property
    def all_succeeded(self) -> bool:
        """Whether no item failed."""
        return not self.errors

    def raise_for_errors(self) -> None:
        """Raise all errors as one ExceptionGroup, if there are any."""
        if self.errors:
            count = f"{len(self.errors)} of {len(self.results)}"
            raise ExceptionGroup(
                f"{count} items of the batch failed",
                [self.errors[at] for at in sorted(self.errors)],
            )

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        position = range(len(self.results))[at]
        if position in self.errors:
            raise self.errors[position]
        return self.results[position]

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(len(self.results)))


class Skipped(str):
    """A version that a save answered without writing it."""

    __slots__ = ()


async def run_batch(keys: Sequence[Any], one: Callable[[int], Awaitable[Any]]) -> BatchResult:
    """Run ``one(position)`` for every key; a failure is that item's alone.

    Items with the same key run one after the other, in their order.
    """
    results: list[Any] = [None] * len(keys)
    errors: dict[int, Exception] = {}
    chains: dict[str, list[int]] = {}
    for at, key in enumerate(keys):
        chains.setdefault(key if isinstance(key, str) else f"\0{at}", []).append(at)
    waiting = iter(chains.values())

    async def worker() -> None:
        for chain in waiting:
            for at in chain:
                try:
                    results[at] = await one(at)
                except Exception as error:  # each item's error is its own answer
                    errors[at] = error

    await together(*(worker() for _ in range(min(_AT_ONCE, len(chains)))))
    skipped = [keys[at] for at, result in enumerate(results) if isinstance(result, Skipped)]
    plain = [str(result) if isinstance(result, Skipped) else result for result in results]
    return BatchResult(plain, errors, list(keys), skipped)
