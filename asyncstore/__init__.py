"""asyncstore: named, versioned objects in many places, for async Python.

A *registry* keeps objects on one backend; a *store* mounts many registries and is one face over
all of them. Importing this package opens nothing and imports no client library.
"""

from asyncstore._version import __version__
from asyncstore.backends.checking import check_backend
from asyncstore.backends.probing import BackendReport
from asyncstore.backends.retries import RetryPolicy
from asyncstore.backends.single_writer import UnsafeSingleWriterWarning
from asyncstore.discovery import DegradedDiscoveryWarning
from asyncstore.errors import (
    AsyncStoreError,
    BackendCapabilityError,
    BackendError,
    BackendTimeout,
    CommitUnknown,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    RegistryVersionConflict,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
    StoreKeyFormatError,
    StoreLocationNotFound,
    StoreReadOnlyError,
    UnsupportedFormatError,
)
from asyncstore.mounts import StoreMount
from asyncstore.progress import OnProgress, ProgressEvent
from asyncstore.registry import AsyncRegistry, ObjectReader, ObjectWriter
from asyncstore.results import BatchResult, ObjectRecord
from asyncstore.settings import DiscoveryPolicy, Settings
from asyncstore.store import AsyncStore

__all__ = [
    "AsyncRegistry",
    "AsyncStore",
    "AsyncStoreError",
    "BackendCapabilityError",
    "BackendError",
    "BackendReport",
    "BackendTimeout",
    "BatchResult",
    "CommitUnknown",
    "DegradedDiscoveryWarning",
    "DiscoveryPolicy",
    "IntegrityError",
    "MaterializationError",
    "ObjectReader",
    "ObjectRecord",
    "ObjectWriter",
    "OnProgress",
    "ProgressEvent",
    "RegistryObjectNotFound",
    "RegistrySettingsConflict",
    "RegistryVersionConflict",
    "RetryPolicy",
    "Settings",
    "StoreAmbiguousObjectError",
    "StoreDiscoveryIncomplete",
    "StoreKeyFormatError",
    "StoreLocationNotFound",
    "StoreMount",
    "StoreReadOnlyError",
    "UnsafeSingleWriterWarning",
    "UnsupportedFormatError",
    "__version__",
    "check_backend",
]
