"""Between objects and their files: which materializer, and where it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncstore.concurrency import SMALL, in_worker, maybe_in_worker
from asyncstore.materializers import Encoded, Materializer, Materializers, default_materializers
from asyncstore.materializers.plugins import Installed, installed, is_known
from asyncstore.record import Manifest


class Coding:
    """The table of materializers of a registry, which all views of it share.

    Other packages' materializers join it at the first save or load, whatever that is of. They lose
    to asyncstore's own and to those that the registry was given.
    """

    def __init__(
        self, given: Iterable[Materializer], *, allow_pickle: bool, entry_points: bool
    ) -> None:
        self._table = default_materializers(allow_pickle=allow_pickle).extended(given)
        self._waits_for_plugins = entry_points

    async def table(self) -> Materializers:
        """The table with the materializers of other packages in it."""
        if self._waits_for_plugins:
            found = installed() if is_known() else await in_worker(installed)
            self._join(found)
        return self._table

    def _join(self, found: Installed) -> None:
        if self._waits_for_plugins and (found.materializers or found.problems):
            self._table = self._table.preceded(found.materializers, found.problems)
        self._waits_for_plugins = False

    async def encode(
        self, obj: Any, materializer: str | Materializer | None
    ) -> tuple[Materializer, Encoded]:
        """An object as files, or a MaterializationError."""
        chosen = (await self.table()).for_object(obj, materializer)
        return chosen, await maybe_in_worker(chosen.is_large(obj), chosen.encode, obj)

    async def decode(
        self, manifest: Manifest, files: dict[str, bytes], as_type: type | None
    ) -> Any:
        """The object again. Runs nothing but the materializer of its registered id."""
        chosen = (await self.table()).by_id(manifest.materializer)
        encoded = Encoded(files, manifest.params)
        is_slow = getattr(chosen, "is_slow", None)  # see DecodesSlowly
        large = manifest.size > SMALL or (is_slow is not None and is_slow(encoded))
        return await maybe_in_worker(large, chosen.decode, encoded, as_type)
