"""The parts of a registry that its operations stand on: opening, checking, encoding."""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from weakref import WeakSet

from asyncstore.backends.base import Backend
from asyncstore.backends.bounded import BoundedBackend, Slots
from asyncstore.backends.local import Durability
from asyncstore.backends.probing import confirm
from asyncstore.backends.retries import RetryPolicy
from asyncstore.backends.single_writer import SingleWriterBackend
from asyncstore.backends.uri import open_backend
from asyncstore.concurrency import as_value, both
from asyncstore.descriptor import Descriptor, Wanted
from asyncstore.errors import (
    BackendTimeout,
    IntegrityError,
    MaterializationError,
    RegistrySettingsConflict,
    StoreKeyFormatError,
)
from asyncstore.materializers import Encoded, Materializer
from asyncstore.materializers.files import PATH_ID
from asyncstore.materializers.values import from_tree, to_tree
from asyncstore.progress import UNWATCHED, Meter, OnProgress, Operation
from asyncstore.registry.coding import Coding
from asyncstore.registry.drafting import Draft, make_draft
from asyncstore.registry.exporting import export
from asyncstore.registry.fetching import Fetched, fetch
from asyncstore.registry.opened import (
    Opened,
    Shared,
    create_new,
    look_for,
    no_settings,
    open_existing,
)
from asyncstore.registry.reading import Moved, Verify, find
from asyncstore.registry.writing import OnConflict
from asyncstore.versions import (
    LATEST,
    Version,
    first_version,
    fit_version,
    format_version,
    read_version,
)

Self = TypeVar("Self", bound="RegistryBase")
T = TypeVar("T")

_POLICIES: Final = (None, *get_args(OnConflict))
_WAYS_TO_VERIFY: Final = get_args(Verify)

_MOST_RESTARTS: Final = 4

MAX_METADATA: Final = 1024 * 1024
"""Bytes of metadata that one version may carry."""


class RegistryBase:
    """How a registry is opened, and how its arguments are checked and its objects coded."""

    def __init__(
        self,
        backend: str | os.PathLike[str] | Backend,
        *,
        version_objects: bool | None = None,
        mutable: bool | None = None,
        version_digits: int | None = None,
        inline_max: int | None = None,
        create: bool = True,
        allow_pickle: bool = False,
        durability: Durability = "full",
        materializers: Iterable[Materializer] = (),
        entry_points: bool = True,
        operation_timeout: float = 60.0,
        request_timeout: float = 30.0,
        retries: RetryPolicy | None = None,
        max_concurrency: int = 64,
        unsafe_single_writer: bool = False,
        **options: Any,
    ) -> None:
        self._wanted = Wanted(version_objects, mutable, version_digits, inline_max)
        _check_choice("create", create, (True, False))
        _check_choice("allow_pickle", allow_pickle, (True, False))
        _check_choice("entry_points", entry_points, (True, False))
        _check_choice("unsafe_single_writer", unsafe_single_writer, (True, False))
        _check_choice("durability", durability, get_args(Durability))
        self._create = create
        self._owns_backend = not isinstance(backend, Backend)
        self._timeout = _positive("operation_timeout", operation_timeout)
        if type(max_concurrency) is not int or max_concurrency < 1:
            raise RegistrySettingsConflict(
                f"max_concurrency={max_concurrency!r}: expected a whole number of 1 or more"
            )
        request_timeout = _positive("request_timeout", request_timeout)
        opened = open_backend(
            backend,
            durability=durability,
            max_concurrency=max_concurrency,
            request_timeout=request_timeout,
            options=options,
        )
        self._io = BoundedBackend(
            SingleWriterBackend(opened) if unsafe_single_writer else opened,
            timeout=request_timeout,
            patience=self._timeout,
            retries=retries,
            slots=Slots(max_concurrency),
        )
        self._coding = Coding(materializers, allow_pickle=allow_pickle, entry_points=entry_points)
        self._shared = Shared()
        self._known: Opened | None = None
        self._meter = UNWATCHED

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    @property
    def uri(self) -> str:
        """Where the objects are. Holds no credentials."""
        return self._io.uri

    @property
    def users(self) -> WeakSet[object]:
        """The stores that have this registry mounted; the last one closes it."""
        return self._shared.users

    @property
    def backend(self) -> Backend:
        """The backend that the objects are on."""
        return self._io.inner

    async def aclose(self) -> None:
        """Let go of threads and connections; the next use opens them again.

        A backend that was handed in is left open: whoever made it closes it.
        """
        if self._owns_backend:
            await self._io.aclose()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def within(self: Self, slots: Slots, on_send: Callable[[], None] | None = None) -> Self:
        """A view of this registry whose requests take their turn among ``slots``.

        ``on_send`` is called whenever a request got its slot. Everything else is shared.
        """
        view = copy.copy(self)
        view._io = self._io.within(slots, on_send)
        view._known = None
        return view

    def watching(
        self: Self, on_progress: OnProgress | None, operation: Operation, key: str
    ) -> Self:
        """A view of this registry for one operation, whose progress is reported under ``key``."""
        if on_progress is None:
            return self
        if not callable(on_progress):
            raise RegistrySettingsConflict(
                f"on_progress={on_progress!r:.80}: expected something that takes a ProgressEvent"
            )
        view = copy.copy(self)
        view._meter = Meter(on_progress, operation, key)
        view._known = None
        return view

    @property
    def meter(self) -> Meter:
        """What counts the bytes of the operation that this view is for."""
        return self._meter

    async def open_to_read(self) -> Opened | None:
        """The registry as it is, or None where there is none yet. Creates nothing."""
        descriptor = self._shared.descriptor
        if descriptor is None:
            # No lock: one caller's hung request must not hold up the others.
            io = self._io.until(asyncio.get_running_loop().time() + self._timeout)
            descriptor = await open_existing(io, self._wanted, create=self._create)
            self._shared.descriptor = self._shared.descriptor or descriptor
        if descriptor is None:
            return None
        return self._opened(descriptor)

    def _opened(self, descriptor: Descriptor) -> Opened:
        if self._known is None or self._known.descriptor is not descriptor:
            self._known = Opened(self._io, descriptor, self._shared, self._timeout, self._meter)
        return self._known

    async def reading(
        self, operation: Callable[[Opened], Coroutine[Any, Any, T | None]]
    ) -> T | None:
        """Run a read; None means "not there", also where there is no registry yet.

        On first use the settings are read beside it, and the read goes ahead on what they most
        likely are; where they turn out otherwise it is done again.
        """
        descriptor = self._shared.descriptor
        if descriptor is not None and not self._io.capabilities.remote:
            return await operation(self._opened(descriptor))  # one request, which is bounded itself
        io = self._io.until(asyncio.get_running_loop().time() + self._timeout)
        if descriptor is not None:
            return await operation(Opened(io, descriptor, self._shared, self._timeout, self._meter))
        assumed = Opened(io, self._wanted.new(), self._shared, self._timeout, self._meter)

        descriptor, result = await both(
            look_for(io, self._wanted, create=self._create), as_value(operation, assumed)
        )
        if descriptor is not None:
            self._shared.descriptor = descriptor
            if not assumed.descriptor.reads_like(descriptor):
                return await self.reading(operation)
        if isinstance(result, Exception):
            raise result
        if descriptor is None and result:
            # Either they were written this moment, or they are lost.
            return await operation(await self._must_open())
        return result

    async def _must_open(self) -> Opened:
        opened = await self.open_to_read()
        if opened is None:
            raise no_settings(self._io)
        return opened

    async def open_to_change(self) -> Opened | None:
        """The registry, or None where there is none; what it is on was tried out once."""
        if not self._io.capabilities.remote or self._shared.confirmed:
            return await self.open_to_read()
        opened, self._shared.confirmed = await both(self.open_to_read(), confirm(self._io))
        return opened

    async def open_to_write(self) -> Opened:
        """The registry, created with its settings where there is none yet."""
        opened = await self.open_to_change()
        if opened is not None:
            return opened
        async with self._shared.queue("", self._timeout):
            if self._shared.descriptor is None:
                self._shared.descriptor = await create_new(
                    self._io, self._wanted, timeout=self._timeout
                )
        return self._opened(self._shared.descriptor)

    async def encode(
        self, obj: Any, materializer: str | Materializer | None
    ) -> tuple[Materializer, Encoded]:
        """An object as files, or a MaterializationError before anything is sent."""
        return await self._coding.encode(obj, materializer)

    async def draft(
        self,
        o: Opened,
        name: str,
        obj: Any,
        metadata: Mapping[str, Any] | None,
        encoded: tuple[Materializer, Encoded],
    ) -> Draft:
        """An encoded object ready to be stored."""
        chosen, first = encoded

        async def again() -> Encoded:
            return (await self._coding.encode(obj, chosen))[1]

        return await make_draft(
            o,
            name,
            first,
            again,
            kind=f"{type(obj).__module__}.{type(obj).__qualname__}",
            materializer=chosen.id,
            metadata=metadata_tree(metadata),
        )

    async def materialize(
        self,
        fetched: Fetched,
        as_type: type | None,
        output_dir: str | os.PathLike[str] | None = None,
    ) -> Any:
        """The object that was fetched. Runs nothing but the materializer of its registered id."""
        if fetched.manifest.materializer != PATH_ID:
            return await self._coding.decode(fetched.manifest, fetched.files, as_type)
        if output_dir is None:
            raise MaterializationError(
                f"{fetched.name!r} is stored as files: load it with output_dir=..., the folder "
                "that they are to be written to"
            )
        if as_type is not None and not issubclass(Path, as_type):
            raise MaterializationError(
                f"{fetched.name!r} is a Path, and as_type={as_type.__qualname__}"
            )
        return await self._export(fetched, output_dir)

    async def _export(self, fetched: Fetched, output_dir: str | os.PathLike[str]) -> Path:
        """Write files; a version that is overwritten meanwhile is written anew, at most 4 times."""
        o = await self._must_open()
        found = fetched.found
        for _ in range(_MOST_RESTARTS + 1):
            try:
                return await export(o, fetched, output_dir, fetched.verify)
            except Moved:
                again = await find(o, found.name, found.version if found.pinned else None)
            if again is None:
                raise o.not_found(found.name, found.version if found.pinned else None)
            fetched = await fetch(o, again, fetched.verify, deadline=o.deadline())
        raise BackendTimeout(f"{found.name!r} was overwritten faster than it could be written")


def _positive(setting: str, seconds: float) -> float:
    if type(seconds) not in (int, float) or not seconds > 0:
        raise RegistrySettingsConflict(f"{setting}={seconds!r}: expected seconds above 0")
    return float(seconds)


def metadata_tree(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as the JSON of a record's header, or a MaterializationError."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise MaterializationError(
            f"metadata must be a dict with str keys, got {type(metadata).__name__}"
        )
    try:
        tree = to_tree(dict(metadata))
    except MaterializationError as error:
        raise MaterializationError(f"the metadata: {error}") from None
    try:
        size = len(json.dumps(tree, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise MaterializationError(
            "the metadata holds a lone surrogate, which is no text: leave it out"
        ) from None
    if size > MAX_METADATA:
        raise MaterializationError(
            f"the metadata takes {size:,} bytes, and {MAX_METADATA:,} is the most: store it as an "
            "object of its own"
        )
    return tree


def metadata_of(tree: dict[str, Any]) -> dict[str, Any]:
    """Metadata as it was given to ``save``."""
    return from_tree(tree) if tree else {}


def time_of(text: str, key: str) -> datetime:
    """A time as records write it, or an IntegrityError."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise IntegrityError(f"the record of {key!r} has no valid time: {text[:80]!r}") from None


def chosen_policy(o: Opened, on_conflict: str | None) -> OnConflict:
    """The conflict policy of a save, or a RegistrySettingsConflict before anything is sent."""
    policy = on_conflict or ("overwrite" if o.descriptor.mutable else "error")
    if policy == "overwrite" and not o.descriptor.mutable:
        raise RegistrySettingsConflict(
            f"on_conflict='overwrite' needs a registry that was created with mutable=True, and "
            f"the versions of {o.io.uri} are immutable"
        )
    return policy  # type: ignore[return-value]  # checked by check_policy


def check_policy(on_conflict: object) -> None:
    """Raise RegistrySettingsConflict unless this is a conflict policy."""
    _check_choice("on_conflict", on_conflict, _POLICIES)


def check_verify(verify: object) -> None:
    """Raise RegistrySettingsConflict unless this is a way to verify."""
    _check_choice("verify", verify, _WAYS_TO_VERIFY)


def check_output_dir(output_dir: object) -> None:
    """Raise MaterializationError unless this is the path of a folder, or None."""
    if output_dir is not None and not isinstance(output_dir, (str, os.PathLike)):
        raise MaterializationError(f"output_dir={output_dir!r:.80}: expected the path of a folder")


def _check_choice(argument: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise RegistrySettingsConflict(f"{argument}={value!r}: expected one of {known}")


def version_to_read(o: Opened, name: str, text: str | None) -> Version | None:
    """The version that is asked for, None for the newest.

    Raises RegistryObjectNotFound for one that this registry cannot even express.
    """
    if text is None or text == LATEST:
        return None
    version = fit_version(read_version(text), o.descriptor.version_digits)
    if version is None or not _expressible(o, version):
        raise o.not_found(name, text)
    return version


def version_to_write(o: Opened, text: str | None) -> Version | None:
    """The version to save under, None for the next one."""
    if text is None or text == LATEST:
        return None
    version = fit_version(read_version(text), o.descriptor.version_digits)
    if version is None:
        raise StoreKeyFormatError(
            f"version {text!r} has more than {o.descriptor.version_digits} numbers, which is what "
            f"the registry at {o.io.uri} was created with (version_digits)"
        )
    if not _expressible(o, version):
        only = format_version(first_version(o.descriptor.version_digits))
        raise StoreKeyFormatError(
            f"version {text!r}: the registry at {o.io.uri} keeps one version of each object, "
            f"which is always {only} (version_objects=False)"
        )
    return version


def _expressible(o: Opened, version: Version) -> bool:
    only = first_version(o.descriptor.version_digits)
    return o.descriptor.version_objects or version == only
