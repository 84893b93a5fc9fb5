"""Materializers of other packages, by entry points of the group ``asyncstore.materializers``.

They are all imported at once, when a registry is first used in a process to save or to load, and
whatever is saved or loaded then: what a record says never decides whether a package is imported.
Whoever installs such a package wants it imported; ``entry_points=False`` keeps a registry from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from asyncstore.materializers._library import said
from asyncstore.materializers.base import PICKLES, Materializer

GROUP: Final = "asyncstore.materializers"


@dataclass(frozen=True, slots=True)
class Installed:
    """The materializers that were found, and for each that could not be loaded a sentence."""

    materializers: tuple[Materializer, ...] = ()
    problems: tuple[str, ...] = ()


@cache
def installed() -> Installed:
    """Import all entry points of the group, once a process. Reads the disk: not for event loops.

    One that fails does not stop the others, nor any save or load that does not need it.
    """
    found: dict[str, Materializer] = {}
    problems: list[str] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        made = _loaded(entry)
        if isinstance(made, str):
            problems.append(made)
        elif made.id in found:
            problems.append(f"two entry points have materializers with the id {made.id!r}")
        else:
            found[made.id] = made
    return Installed(tuple(found.values()), tuple(problems))


def is_known() -> bool:
    """Whether :func:`installed` answers at once."""
    return installed.cache_info().currsize > 0


def _loaded(entry: EntryPoint) -> Materializer | str:
    """The materializer of an entry point, which names it or what makes it; else what is wrong."""
    where = f"the entry point {entry.name!r} ({entry.value})"
    try:
        made = entry.load()
        if isinstance(made, type) or not isinstance(made, Materializer):
            made = made()
    except Exception as error:  # whatever importing somebody else's package raises
        return f"{where} cannot be loaded: {type(error).__name__}: {said(error)}"
    if not isinstance(made, Materializer) or type(made.id) is not str:
        return f"{where} is no materializer, nor does calling it make one"
    if made.id in PICKLES or made.id != entry.name:
        return f"{where} has the id {made.id!r}, which must be its name and no kind of pickle"
    return made
