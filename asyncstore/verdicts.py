"""From what the mounts answered to what that means. Pure, and tested exhaustively.

A probe ends in one of three outcomes: a hit, a miss (a definite "not there") or a failure, which
is neither. Loading may run code, and mounts are different authorities: so whatever is not certain
fails closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from asyncstore.settings import DiscoveryMode
from asyncstore.versions import Version


@dataclass(frozen=True, slots=True)
class Hit:
    """The mount has it: this version of it. ``found`` is what the registry needs to go on."""

    version: Version
    found: Any = None


@dataclass(frozen=True, slots=True)
class Miss:
    """The mount definitely does not have it. ``has_name``: it has other versions of the name."""

    has_name: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """The mount gave no answer that tells."""

    error: Exception


Outcome: TypeAlias = Hit | Miss | Failure


@dataclass(frozen=True, slots=True)
class Chosen:
    """Load it from here."""

    location: str


@dataclass(frozen=True, slots=True)
class NotThere:
    """No mount has it, or the mount that decides has the name but not this version."""

    locations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """More than one mount has it."""

    locations: tuple[str, ...]
    errors: dict[str, Exception]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A mount that matters gave no answer."""

    hits: tuple[str, ...]
    errors: dict[str, Exception]


Verdict: TypeAlias = Chosen | NotThere | Ambiguous | Incomplete


def judge(
    mode: DiscoveryMode, mounts: Sequence[str], outcomes: Mapping[str, Outcome]
) -> Verdict | None:
    """What the outcomes so far mean; None while another one could still change it."""
    if mode == "first":
        return _judge_first(mounts, outcomes)
    if len(outcomes) < len(mounts):
        return None
    hits = hits_of(mounts, outcomes)
    errors = errors_of(mounts, outcomes)
    if mode == "unsafe-newest":
        if errors:
            return Incomplete(tuple(hits), errors)
        hits = _newest(hits)
    if len(hits) > 1:
        return Ambiguous(tuple(hits), errors)
    if errors:
        return Incomplete(tuple(hits), errors)
    return Chosen(next(iter(hits))) if hits else NotThere(tuple(mounts))


def _judge_first(mounts: Sequence[str], outcomes: Mapping[str, Outcome]) -> Verdict | None:
    for mount in mounts:
        outcome = outcomes.get(mount)
        if outcome is None:
            return None
        if isinstance(outcome, Hit):
            return Chosen(mount)
        if isinstance(outcome, Failure):
            return Incomplete(tuple(hits_of(mounts, outcomes)), errors_of(mounts, outcomes))
        if outcome.has_name:
            return NotThere((mount,))
    return NotThere(tuple(mounts))


def judge_any(mounts: Sequence[str], outcomes: Mapping[str, Outcome]) -> bool | Incomplete | None:
    """Whether any mount has it: one hit is enough, but only all misses are a "no"."""
    if hits_of(mounts, outcomes):
        return True
    if len(outcomes) < len(mounts):
        return None
    errors = errors_of(mounts, outcomes)
    return Incomplete((), errors) if errors else False


def judge_all(
    mounts: Sequence[str], outcomes: Mapping[str, Outcome]
) -> list[str] | Incomplete | None:
    """Every mount that has it; any failure leaves that open."""
    if len(outcomes) < len(mounts):
        return None
    hits, errors = hits_of(mounts, outcomes), errors_of(mounts, outcomes)
    return Incomplete(tuple(hits), errors) if errors else list(hits)


def hits_of(mounts: Sequence[str], outcomes: Mapping[str, Outcome]) -> dict[str, Version]:
    """The mounts that have it, in mount order, with the version they have."""
    found = ((mount, outcomes.get(mount)) for mount in mounts)
    return {mount: outcome.version for mount, outcome in found if isinstance(outcome, Hit)}


def errors_of(mounts: Sequence[str], outcomes: Mapping[str, Outcome]) -> dict[str, Exception]:
    """The mounts that gave no answer, in mount order, with the reason."""
    found = ((mount, outcomes.get(mount)) for mount in mounts)
    return {mount: outcome.error for mount, outcome in found if isinstance(outcome, Failure)}


def _newest(hits: dict[str, Version]) -> dict[str, Version]:
    width = max((len(version) for version in hits.values()), default=0)
    padded = {mount: v + (0,) * (width - len(v)) for mount, v in hits.items()}
    newest = max(padded.values(), default=())
    return {mount: hits[mount] for mount, version in padded.items() if version == newest}
