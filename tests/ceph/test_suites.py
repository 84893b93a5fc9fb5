"""The suites of registries and stores once more, with their places on Ceph.

Every test of these modules that asks for ``places`` is a test of this module too, and gets those
below: each backend that it opens is on the other gateway than the one before.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncstore.backends.base import Backend
from tests import (
    test_copy_move,
    test_registry_batch,
    test_registry_dict,
    test_registry_listing,
    test_registry_settings,
    test_registry_verify,
    test_registry_versions,
    test_store_keys,
    test_store_mounts,
    test_store_objects,
    test_streams,
)
from tests.servers.ceph import Ceph
from tests.support import Places, on_s3
from tests.test_store_keys import write  # noqa: F401  # a fixture of its tests

pytestmark = pytest.mark.asyncio

SUITES = [
    test_copy_move,
    test_registry_batch,
    test_registry_dict,
    test_registry_listing,
    test_registry_settings,
    test_registry_verify,
    test_registry_versions,
    test_store_keys,
    test_store_mounts,
    test_store_objects,
    test_streams,
]

for suite in SUITES:
    for name, test in list(vars(suite).items()):
        if name.startswith("test_") and "places" in inspect.signature(test).parameters:
            of = suite.__name__.rpartition(".test_")[2]
            globals()[f"test_{of}_{name.removeprefix('test_')}"] = test
    del name, test


@pytest_asyncio.fixture
async def places(gateways: list[str], tmp_path: Path) -> AsyncIterator[Places]:
    """Places on Ceph, by way of the gateways in turn."""
    keys = {"access_key_id": Ceph.access_key, "secret_access_key": Ceph.secret_key}
    turns = itertools.cycle([on_s3(url, **keys) for url in gateways])

    def make(folder: Path, place: str) -> Backend:
        return next(turns)(folder, place)

    found = Places(make, tmp_path, remote=True)
    yield found
    await found.aclose()
