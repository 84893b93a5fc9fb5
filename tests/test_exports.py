"""What ``import asyncstore`` gives, and what it must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import asyncstore

CONTRACT = {
    "AsyncRegistry", "AsyncStore", "AsyncStoreError", "BackendCapabilityError", "BackendError",
    "BackendTimeout", "BatchResult", "CommitUnknown", "DegradedDiscoveryWarning",
    "DiscoveryPolicy", "IntegrityError", "MaterializationError", "RegistryObjectNotFound",
    "RegistrySettingsConflict", "RegistryVersionConflict", "Settings", "StoreAmbiguousObjectError",
    "StoreDiscoveryIncomplete", "StoreKeyFormatError", "StoreLocationNotFound", "StoreMount",
    "StoreReadOnlyError", "UnsupportedFormatError",
}  # fmt: skip


def test_exported_names_are_sorted() -> None:
    assert list(asyncstore.__all__) == sorted(asyncstore.__all__)


def test_exported_names_are_there() -> None:
    assert [name for name in asyncstore.__all__ if not hasattr(asyncstore, name)] == []


def test_everything_that_the_contract_names_is_exported() -> None:
    assert CONTRACT - set(asyncstore.__all__) == set()


def test_every_public_class_of_the_package_is_exported() -> None:
    public = {name for name, value in vars(asyncstore).items() if isinstance(value, type)}
    assert public - set(asyncstore.__all__) == set()


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        ("StoreLocationNotFound", (LookupError,)),
        ("StoreKeyFormatError", (ValueError,)),
        ("StoreAmbiguousObjectError", ()),
        ("StoreDiscoveryIncomplete", ()),
        ("StoreReadOnlyError", (PermissionError,)),
        ("RegistryObjectNotFound", (KeyError,)),
        ("RegistryVersionConflict", (FileExistsError,)),
        ("RegistrySettingsConflict", (ValueError,)),
        ("CommitUnknown", ()),
        ("IntegrityError", (ValueError,)),
        ("MaterializationError", (TypeError,)),
        ("UnsupportedFormatError", ()),
        ("BackendError", (OSError,)),
        ("BackendTimeout", (asyncstore.BackendError, TimeoutError)),
        ("BackendCapabilityError", (asyncstore.BackendError,)),
    ],
)
def test_errors_are_what_the_contract_says(error: str, parents: tuple[type, ...]) -> None:
    kind = getattr(asyncstore, error)
    assert issubclass(kind, (asyncstore.AsyncStoreError))
    assert all(issubclass(kind, parent) for parent in parents)


def test_an_ambiguous_name_is_no_lookup_error() -> None:
    assert not issubclass(asyncstore.StoreAmbiguousObjectError, LookupError)


def test_import_loads_no_client_library() -> None:
    script = "import asyncstore, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "asyncstore" in loaded
    assert loaded & {"aiobotocore", "botocore", "numpy", "pandas", "aiohttp"} == set()


def test_import_starts_no_thread() -> None:
    script = "import asyncstore, asyncstore.sync, threading; print(threading.active_count())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "1"
