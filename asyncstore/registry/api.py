"""The registry as users see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncstore.errors import RegistryVersionConflict, StoreKeyFormatError
from asyncstore.keys import split_name
from asyncstore.progress import OnProgress
from asyncstore.registry.base import (
    check_policy,
    check_verify,
    chosen_policy,
    version_to_read,
    version_to_write,
)
from asyncstore.registry.opened import not_found
from asyncstore.registry.reading import Verify
from asyncstore.registry.transfer import Copied, copy, verify_stored
from asyncstore.registry.writable import WritableRegistry
from asyncstore.registry.writing import OnConflict
from asyncstore.results import run_batch
from asyncstore.versions import format_version


class AsyncRegistry(WritableRegistry):
    """Named, versioned, immutable-by-default objects on one backend.

    Nothing acknowledged is lost, nothing torn or unverified is returned, and nothing stored is
    executed on load unless ``allow_pickle=True``. No call blocks the event loop.

    ``backend`` is a path, a URI (``file:///…``, ``memory://name``, ``s3://bucket/prefix``) or a
    :class:`~asyncstore.backends.Backend`. ``version_objects``, ``mutable``, ``version_digits`` (1
    to 7) and ``inline_max`` (bytes) are stored with the registry when it is created by its first
    save; left None they come from there, and a value that contradicts what is stored raises
    RegistrySettingsConflict on first use. With ``create=False`` a missing registry is a
    BackendError. ``durability="fast"`` skips fsync: recent objects may not survive a power
    failure. ``materializers`` are added to the default ones; with ``entry_points`` so are those of
    other installed packages, which are imported when a registry is first used.

    ``operation_timeout`` bounds an operation and ``request_timeout`` each attempt at a request,
    in seconds and without the time that large payloads take to travel; ``retries`` says how
    requests over a network are repeated; ``max_concurrency`` bounds the requests under way at
    once. ``options`` are for a service: for S3 ``endpoint_url``, ``region``, ``profile``,
    ``access_key_id``, ``secret_access_key``, ``session_token``, ``anonymous``, ``addressing``
    ("auto", "path", "virtual"), ``checksum`` ("md5", "crc32", "none"), ``connect_timeout``
    (seconds), or a ``client`` of aiobotocore, which is used and not closed. Where a service has
    no conditional writes, ``unsafe_single_writer=True`` writes without them, with a warning.

    A name may carry its version: ``"model@1.0.0"`` is ``"model"`` with ``version="1.0.0"``.
    """

    async def update(
        self, other: Mapping[str, Any] | AsyncRegistry, *, on_progress: OnProgress | None = None
    ) -> None:
        """Save every item of a mapping, or copy every version of every object of a registry."""
        if isinstance(other, AsyncRegistry):
            pairs = [
                (name, version)
                for name, versions in (await other.list_objects_and_versions()).items()
                for version in versions
            ]

            async def one(at: int) -> None:
                name, version = pairs[at]
                watched = self.watching(on_progress, "copy", f"{name}@{version}")
                await watched.copy_from(other, name, version, target=name)
                watched.meter.end()

            done = await run_batch([f"{name}@{version}" for name, version in pairs], one)
        elif isinstance(other, Mapping):
            keys = list(other)
            for key in keys:
                split_name(key)
                await self.encode(other[key], None)  # refused before anything is written
            objects = [other[key] for key in keys]
            done = await self.save(keys, objects, on_progress=on_progress)
        else:
            raise StoreKeyFormatError(
                f"update takes a mapping of names, or another registry, got {type(other).__name__}"
            )
        if not done.all_succeeded:
            raise done.errors[min(done.errors)]

    # -- copying -----------------------------------------------------------------------------

    async def copy(
        self,
        source: str,
        *,
        target: str,
        source_version: str | None = None,
        target_version: str | None = None,
        on_conflict: OnConflict | None = None,
        verify: Verify = "integrity",
        on_progress: OnProgress | None = None,
    ) -> str:
        """Copy a version under another name or number, bytes and manifest; never decodes it."""
        watched = self.watching(on_progress, "copy", source)
        copied = await watched.copy_from(
            self, source, source_version, target=target, target_version=target_version,
            on_conflict=on_conflict, verify=verify,
        )  # fmt: skip
        watched.meter.end()
        return format_version(copied.target)

    async def move(
        self,
        source: str,
        *,
        target: str,
        source_version: str | None = None,
        target_version: str | None = None,
        on_conflict: OnConflict | None = None,
        verify: Verify = "integrity",
        on_progress: OnProgress | None = None,
    ) -> str:
        """Copy, read the copy back and check it, then delete exactly what was copied."""
        watched = self.watching(on_progress, "move", source)
        copied = await watched.move_from(
            self, source, source_version, target=target, target_version=target_version,
            on_conflict=on_conflict, verify=verify,
        )  # fmt: skip
        watched.meter.end()
        return format_version(copied.target)

    async def copy_from(
        self,
        source: AsyncRegistry,
        key: str,
        version: str | None,
        *,
        target: str,
        target_version: str | None = None,
        on_conflict: OnConflict | None = None,
        verify: Verify = "integrity",
    ) -> Copied:
        """Copy a version of another registry into this one."""
        name, text = split_name(key, version)
        target_name, target_text = split_name(target, target_version)
        check_policy(on_conflict)
        check_verify(verify)
        there = await source.open_to_read()
        if there is None:
            raise not_found(source.uri, name, text)
        number = version_to_read(there, name, text)
        here = await self.open_to_write()
        policy, target_number = (
            chosen_policy(here, on_conflict),
            version_to_write(here, target_text),
        )
        return await copy(there, name, number, here, target_name, target_number, policy, verify)

    async def move_from(
        self, source: AsyncRegistry, key: str, version: str | None, *, target: str, **options: Any
    ) -> Copied:
        """Move a version of another registry into this one; a re-run ends what a crash cut off."""
        copied = await self.copy_from(source, key, version, target=target, **options)
        if copied.same or copied.skipped:
            return copied  # what was not copied stays where it is
        if options.get("verify") != "full":  # then the copy was read back already
            target_name, _ = split_name(target)
            await verify_stored(await self.open_to_write(), target_name, copied.target)
        name, _ = split_name(key)
        text = format_version(copied.source)
        if not await source.delete_exactly(name, text, copied.commit):
            raise RegistryVersionConflict(
                f"{name!r} version {text} changed while it was moved: the copy is complete, and "
                "what is in the source now was left there",
                name=name,
                version=text,
            )
        return copied
