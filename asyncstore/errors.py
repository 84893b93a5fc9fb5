"""Every error that asyncstore raises, in one tree.

::

    AsyncStoreError
    ├── StoreLocationNotFound (LookupError)
    ├── StoreKeyFormatError (ValueError)
    ├── StoreAmbiguousObjectError
    ├── StoreDiscoveryIncomplete
    ├── StoreReadOnlyError (PermissionError)
    ├── RegistryObjectNotFound (KeyError)
    ├── RegistryVersionConflict (FileExistsError)
    ├── RegistrySettingsConflict (ValueError)
    ├── CommitUnknown
    ├── IntegrityError (ValueError)
    ├── MaterializationError (TypeError)
    ├── UnsupportedFormatError
    └── BackendError (OSError)
        ├── BackendTimeout (TimeoutError)
        └── BackendCapabilityError

Each message says what was wrong, what was expected and, where it helps, what to type instead.
The facts are attributes too, so that no caller has to read a message. All of them pickle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any


class AsyncStoreError(Exception):
    """The root of every error that asyncstore raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __str__(self) -> str:
        # KeyError would print the repr of its message, and OSError would look for an errno.
        return str(self.args[0]) if self.args else ""


class StoreLocationNotFound(AsyncStoreError, LookupError):
    """No mount of that name is mounted; the message suggests close names."""

    def __init__(self, message: str = "", *, location: str | None = None) -> None:
        super().__init__(message)
        self.location = location


class StoreKeyFormatError(AsyncStoreError, ValueError):
    """A key, name, version or location is malformed, or unqualified where it may not be."""


class StoreAmbiguousObjectError(AsyncStoreError):
    """An unqualified name is in more than one mount.

    Deliberately no ``LookupError``: code that reads "missing, so write it" must not catch it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "",
        version: str | None = None,
        locations: Sequence[str] = (),
        suggested_keys: Sequence[str] = (),
        errors: Mapping[str, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.version = version
        self.locations = list(locations)
        self.suggested_keys = list(suggested_keys)
        self.errors = dict(errors or {})


class StoreDiscoveryIncomplete(AsyncStoreError):
    """Some mount gave no definite answer, so neither a hit nor "not found" can be vouched for."""

    def __init__(
        self,
        message: str = "",
        *,
        name: str | None = None,
        hits: Sequence[str] = (),
        errors: Mapping[str, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.hits = list(hits)
        self.errors = dict(errors or {})


class StoreReadOnlyError(AsyncStoreError, PermissionError):
    """A write or delete on a read-only mount; raised before anything is sent."""

    def __init__(self, message: str = "", *, location: str | None = None) -> None:
        super().__init__(message)
        self.location = location


class RegistryObjectNotFound(AsyncStoreError, KeyError):
    """Every place that was asked gave the definite answer "not there"."""

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "",
        version: str | None = None,
        locations: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.name = name
        self.version = version
        self.locations = list(locations)


class RegistryVersionConflict(AsyncStoreError, FileExistsError):
    """That version is taken, or was deleted and may not be written again."""

    def __init__(self, message: str = "", *, name: str = "", version: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.version = version


class RegistrySettingsConflict(AsyncStoreError, ValueError):
    """A setting has no valid value, or contradicts what the registry on the backend says."""


class CommitUnknown(AsyncStoreError):
    """The fate of a write could not be learned in time. Nothing was rolled back.

    The write is either wholly there or wholly absent, now or later. :meth:`resolve` reads again.
    (Iceberg calls the same outcome ``CommitStateUnknownException``.)
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "",
        version: str | None = None,
        commit: str = "",
        resolver: Callable[[], Awaitable[bool | None]] | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.version = version
        self.commit = commit
        self._resolver = resolver

    async def resolve(self) -> bool | None:
        """Read the slot again: True if the write is in it or was, False if it never will be.

        None means that the answer is still open. Raises :class:`BackendError` where the backend
        cannot be read, and None is all that an unpickled error can say.
        """
        return await self._resolver() if self._resolver is not None else None

    def __reduce__(self) -> tuple[Any, ...]:
        state = {**self.__dict__, "_resolver": None}
        return (type(self), self.args, state)


class IntegrityError(AsyncStoreError, ValueError):
    """Stored bytes are not what was written; nothing unverified was handed out."""


class MaterializationError(AsyncStoreError, TypeError):
    """No materializer fits, the value cannot be stored exactly, or loading it is not trusted."""


class UnsupportedFormatError(AsyncStoreError):
    """The record was written by a newer format than this version reads."""


class BackendError(AsyncStoreError, OSError):
    """The backend refused, failed or could not be reached. Never means "not there".

    ``transient`` says that the same request may well succeed in a moment.
    """

    def __init__(self, message: str = "", *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class BackendTimeout(BackendError, TimeoutError):
    """The backend gave no answer in time."""


class BackendCapabilityError(BackendError):
    """The backend cannot do what is asked of it, or does not keep what it promises."""
