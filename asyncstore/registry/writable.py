"""What changes a registry: saving, deleting, and the dict-like calls that do both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, overload

from asyncstore.errors import (
    BackendTimeout,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreKeyFormatError,
)
from asyncstore.keys import split_name
from asyncstore.mapping import MISSING
from asyncstore.materializers import Materializer
from asyncstore.progress import OnProgress
from asyncstore.registry.base import (
    check_policy,
    chosen_policy,
    metadata_tree,
    version_to_read,
    version_to_write,
)
from asyncstore.registry.deleting import delete_all, delete_version
from asyncstore.registry.opened import not_found
from asyncstore.registry.readable import Key, ReadableRegistry, sequence_of_keys
from asyncstore.registry.streams import ObjectWriter
from asyncstore.registry.writing import OnConflict, Payload, newest_number, save, save_at
from asyncstore.results import BatchResult, Skipped, run_batch
from asyncstore.versions import first_version, format_version, next_version


class WritableRegistry(ReadableRegistry):
    """The reads and writes of a registry."""

    @overload
    async def save(
        self, key: str, obj: Any, *, version: str | None = None,
        metadata: Mapping[str, Any] | None = None, materializer: str | Materializer | None = None,
        on_conflict: OnConflict | None = None, on_progress: OnProgress | None = None,
    ) -> str: ...  # fmt: skip

    @overload
    async def save(
        self, key: Sequence[str], obj: Sequence[Any], *, version: str | None = None,
        metadata: Mapping[str, Any] | None = None, materializer: str | Materializer | None = None,
        on_conflict: OnConflict | None = None, on_progress: OnProgress | None = None,
    ) -> BatchResult: ...  # fmt: skip

    async def save(
        self, key: Key, obj: Any, *, version: str | None = None,
        metadata: Mapping[str, Any] | None = None, materializer: str | Materializer | None = None,
        on_conflict: OnConflict | None = None, on_progress: OnProgress | None = None,
    ) -> Any:  # fmt: skip
        """Store an object, all or nothing, durably; answers the version written.

        Without a version it becomes the next one, also beside other writers: all of them succeed,
        with distinct consecutive numbers. ``on_conflict`` says what happens to a version that is
        there: ``"error"``, ``"skip"`` (answers it untouched) or ``"overwrite"`` (the default of a
        mutable registry, which alone allows it). ``key`` and ``obj`` may be sequences of one
        length: the answer is then a BatchResult. A ``pathlib.Path`` is saved as the file or folder
        that it names, an asynchronous iterable as the bytes that it brings, in bounded memory.
        ``on_progress`` is called with a :class:`~asyncstore.ProgressEvent` now and then.

        Raises RegistryVersionConflict, MaterializationError, StoreKeyFormatError, CommitUnknown
        or BackendError; in every case but CommitUnknown nothing was stored.
        """

        async def one(key: str, obj: Any) -> str:
            watched = self.watching(on_progress, "save", key)
            return await watched.save_one(key, obj, version, metadata, materializer, on_conflict)

        if isinstance(key, str):
            return str(await one(key, obj))
        keys, objects = paired(key, obj)
        return await run_batch(keys, lambda at: one(keys[at], objects[at]))

    async def save_one(
        self,
        key: str,
        obj: Any,
        version: str | None,
        metadata: Mapping[str, Any] | None,
        materializer: str | Materializer | None,
        on_conflict: OnConflict | None,
    ) -> str:
        """Save one object; a version that was there already is answered as ``Skipped``."""
        name, text = split_name(key, version)
        check_policy(on_conflict)
        metadata_tree(metadata)
        if isinstance(obj, AsyncIterable) and materializer is None:
            return await self._save_stream(key, obj, version, metadata, on_conflict)
        encoded = await self.encode(obj, materializer)
        o = await self.open_to_write()
        policy, number = chosen_policy(o, on_conflict), version_to_write(o, text)
        draft = await self.draft(o, name, obj, metadata, encoded)
        saved = await save(o, draft, number, policy)
        self.meter.end()
        return (Skipped if saved.skipped else str)(format_version(saved.version))

    async def _save_stream(
        self,
        key: str,
        pieces: AsyncIterable[Any],
        version: str | None,
        metadata: Mapping[str, Any] | None,
        on_conflict: OnConflict | None,
    ) -> str:
        """Save what an asynchronous iterable brings, piece by piece, as ``bytes``."""
        async with self.open_writer(
            key, version=version, metadata=metadata, on_conflict=on_conflict
        ) as writer:
            async for piece in pieces:
                if not isinstance(piece, (bytes, bytearray, memoryview)):
                    raise MaterializationError(
                        f"an asynchronous iterable is saved as the bytes that it brings, and this "
                        f"one brought {type(piece).__module__}.{type(piece).__qualname__}"
                    )
                await writer.write(piece)
        return (Skipped if writer.skipped else str)(writer.version or "")

    # -- deleting ----------------------------------------------------------------------------

    async def delete(self, key: Key, version: str | None = None, *, purge: bool = False) -> Any:
        """Delete a version, or all of them (None), oldest first; a sequence gives a BatchResult.

        A deleted number stays dead. ``purge=True`` frees the payload at once; else it stays for
        readers under way until garbage is collected. Raises RegistryObjectNotFound where nothing
        is live.
        """
        if not isinstance(key, str):
            keys = sequence_of_keys(key)
            return await run_batch(keys, lambda at: self.delete(keys[at], version, purge=purge))
        name, text = split_name(key, version)
        o = await self.open_to_change()
        if o is None:
            raise not_found(self.uri, name, text)
        number = version_to_read(o, name, text)
        if number is None and not o.descriptor.version_objects:
            number = first_version(o.descriptor.version_digits)
        if number is not None:
            done = await delete_version(o, name, number, purge=purge)
        elif text is None:
            done = await delete_all(o, name, purge=purge)
        else:
            found = await self._must_find(name, text)
            done = await delete_version(o, name, found.version, purge=purge)
        if not done:
            raise not_found(self.uri, name, text)
        return None

    async def delete_exactly(self, name: str, version: str, commit: str) -> bool:
        """Delete a version if it still holds this commit; True only if this very call did."""
        o = await self.open_to_change()
        number = version_to_read(o, name, version) if o else None
        if o is None or number is None:
            return False
        return await delete_version(o, name, number, exactly=commit)

    # -- as a dict ---------------------------------------------------------------------------

    async def pop(self, key: str, default: Any = MISSING, *, as_type: type | None = None) -> Any:
        """Load the newest version (or the one that the key names) and delete exactly that.

        Of several concurrent calls one wins each version. Where nothing is there: ``default``,
        else RegistryObjectNotFound.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        while asyncio.get_running_loop().time() < deadline:
            try:
                fetched = await self.fetch(key, None, verify="integrity")
            except RegistryObjectNotFound:
                if default is not MISSING:
                    return default
                raise
            value = await self.materialize(fetched, as_type)
            version = format_version(fetched.version)
            if await self.delete_exactly(fetched.name, version, fetched.record.line.commit):
                return value
        raise BackendTimeout(f"{key!r} changed faster than it could be popped; nothing was deleted")

    async def setdefault(self, key: str, default: Any) -> Any:
        """The object, or ``default`` after storing it; who loses a race gets the winner's."""
        name, text = split_name(key)
        deadline = asyncio.get_running_loop().time() + self._timeout
        while asyncio.get_running_loop().time() < deadline:
            found = await self.get(key, MISSING)
            if found is not MISSING:
                return found
            if await self._save_unless_there(name, text, default):
                return default
        raise BackendTimeout(f"{key!r} changed faster than it could be set; nothing was stored")

    async def _save_unless_there(self, name: str, text: str | None, obj: Any) -> bool:
        """Save under the number that is next if nothing is there, and under no other."""
        encoded = await self.encode(obj, None)
        o = await self.open_to_write()
        draft = await self.draft(o, name, obj, None, encoded)
        number = version_to_write(o, text)
        digits = o.descriptor.version_digits
        if number is None and o.descriptor.version_objects:
            number = next_version(await newest_number(o, name), digits)
            if await self.has_object(name):  # saved since the caller looked
                return False
        payload = Payload(o, draft)
        try:
            await payload.upload(draft.payloads)
            draft = await draft.finished()
            await save_at(o, draft, number or first_version(digits), "error", payload)
        except RegistryVersionConflict:
            if text is not None and not await self.has_object(name, text):
                raise  # deleted: nothing will ever be there again
            return False
        finally:
            await payload.end()
        return True

    @asynccontextmanager
    async def open_writer(
        self,
        key: str,
        *,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_conflict: OnConflict | None = None,
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[ObjectWriter]:
        """Write an object's bytes piece by piece: committed on a clean exit, else nothing is left.

        What is written loads as ``bytes``. The writer's ``version`` is set once it is committed.
        """
        name, text = split_name(key, version)
        check_policy(on_conflict)
        tree = metadata_tree(metadata)
        o = await self.watching(on_progress, "write", key).open_to_write()
        policy, number = chosen_policy(o, on_conflict), version_to_write(o, text)
        writer = ObjectWriter(o, name, tree)
        try:
            yield writer
            await writer.commit(number, policy)
        finally:
            await writer.abandon()


def paired(keys: Any, objects: Any) -> tuple[list[str], list[Any]]:
    """Keys and objects of a batch, of one length, or a StoreKeyFormatError (a ValueError)."""
    listed = sequence_of_keys(keys)
    if not isinstance(objects, Sequence) or isinstance(objects, (str, bytes, bytearray)):
        raise StoreKeyFormatError(
            f"a batch of {len(listed)} keys needs a list of as many objects, got "
            f"{type(objects).__name__}"
        )
    if len(listed) != len(objects):
        raise StoreKeyFormatError(
            f"{len(listed)} keys and {len(objects)} objects: a batch needs as many of both, and "
            "nothing was saved"
        )
    return listed, list(objects)
