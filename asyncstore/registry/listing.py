"""Listing names and versions: a page at a time, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from asyncstore.concurrency import both, together
from asyncstore.errors import IntegrityError
from asyncstore.names import escape_name, is_long, unescape_name
from asyncstore.record import MAX_RECORD, is_dead_size, read_name
from asyncstore.registry.deleting import live_entries
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import scan, version_of
from asyncstore.versions import Version, format_version, version_of_key

_PAGE: Final = 1000
_MOST_LONG_NAMES: Final = 10_000


async def versions_of(o: Opened, name: str) -> list[Version]:
    """The live versions of a name, oldest first."""
    found = [version_of(o, entry.key) for entry in await live_entries(o, name)]
    return sorted(version for version in found if version is not None)


class _Marks:
    """The marked names, read beside the names themselves: both are listed in the same order."""

    def __init__(self, o: Opened) -> None:
        self._o = o
        self._known: set[str] = set()
        self._after = ""
        self._more = True

    async def load(self) -> None:
        """Read the next page of marks."""
        page = await self._o.io.list("g/", start_after=self._after, limit=_PAGE)
        self._known.update(prefix.split("/")[1] for prefix in page.prefixes)
        self._after = max([*page.prefixes, *(entry.key for entry in page.entries), self._after])
        self._more = page.more

    async def among(self, segments: list[str]) -> set[str]:
        """Those of ``segments``, which come in order, that are marked."""
        ordered = self._o.io.capabilities.ordered
        while self._more and not (ordered and self._after >= f"g/{segments[-1]}/"):
            await self.load()
        marked = self._known.intersection(segments)
        if ordered:  # the names to come are all later ones, in the order of keys: "a-b/" < "a/"
            last = segments[-1] + "/"
            self._known = {mark for mark in self._known if mark + "/" > last}
        return marked


async def names(o: Opened, prefix: str = "") -> AsyncIterator[list[str]]:
    """The names that have a live version and start with ``prefix``, a page at a time."""
    marks = _Marks(o)
    after = ""
    page, _ = await both(o.io.list("m/", limit=_PAGE), marks.load())
    while True:
        segments = [shown.split("/")[1] for shown in page.prefixes]
        if segments:
            found = await _spelt(o, segments, await marks.among(segments))
            yield [name for name in found if name.startswith(prefix)]
        if not page.more:
            return
        after = max([*page.prefixes, *(entry.key for entry in page.entries), after])
        page = await o.io.list("m/", start_after=after, limit=_PAGE)


async def _spelt(o: Opened, segments: list[str], marked: set[str]) -> list[str]:
    """The names of key segments that are not foreign and have something live left."""
    spelt = {segment: unescape_name(segment) for segment in segments}
    marked_ones = [segment for segment in segments if segment in marked and spelt[segment]]
    long = [segment for segment in segments if spelt[segment] is None and is_long(segment)]
    alive = await together(*(_has_live(o, spelt[segment] or "") for segment in marked_ones))
    spelt.update(
        (segment, None) for segment, lives in zip(marked_ones, alive, strict=True) if not lives
    )
    spelt.update(zip(long, await together(*(_long_name(o, one) for one in long)), strict=True))
    return [name for name in (spelt[segment] for segment in segments) if name is not None]


async def _has_live(o: Opened, name: str) -> bool:
    return (await scan(o, name))[1] is not None


async def _long_name(o: Opened, segment: str) -> str | None:
    """The name that is too long for its key: any live record of it spells it out."""
    page = await o.io.list(f"m/{segment}/", limit=_PAGE)
    digits = o.descriptor.version_digits
    for entry in page.entries:
        if is_dead_size(entry.size) or version_of_key(entry.key.split("/")[2], digits) is None:
            continue
        known = o.shared.long_names.get(segment)
        if known is not None:
            return known
        blob = await o.io.get(entry.key, length=MAX_RECORD)
        if blob is not None:
            name = read_name(blob.data, o.where(entry.key))
            if escape_name(name) != segment:
                raise IntegrityError(f"{o.where(entry.key)} is corrupt: it names {name[:80]!r}")
            if len(o.shared.long_names) >= _MOST_LONG_NAMES:
                o.shared.long_names.clear()
            o.shared.long_names[segment] = name
            return name
    return None


async def names_and_versions(o: Opened) -> dict[str, list[str]]:
    """Every name with its live versions, oldest first, from one listing of all records."""
    found: dict[str, list[Version]] = {}
    after = ""
    while True:
        page = await o.io.list("m/", start_after=after, limit=_PAGE, deep=True)
        for entry in page.entries:
            _, segment, *rest = entry.key.split("/")
            version = version_of(o, entry.key) if len(rest) == 1 else None
            if version is not None and not is_dead_size(entry.size):
                found.setdefault(segment, []).append(version)
        if not page.more:
            break
        after = page.entries[-1].key
    spelt = {segment: unescape_name(segment) for segment in found}
    long = [segment for segment, name in spelt.items() if name is None and is_long(segment)]
    spelt.update(zip(long, await together(*(_long_name(o, one) for one in long)), strict=True))
    pairs = ((name, found[segment]) for segment, name in spelt.items() if name is not None)
    return {name: [format_version(v) for v in sorted(versions)] for name, versions in sorted(pairs)}
