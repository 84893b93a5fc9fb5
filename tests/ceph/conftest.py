"""A real cluster for the tests of this folder, which run only where that is asked for.

``ASYNCSTORE_CEPH=1`` runs them, and fails where Ceph cannot be started; ``ASYNCSTORE_CEPH=try``
skips them there. Without it they are not collected.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.servers.ceph import Ceph
from tests.servers.client import s3_client
from tests.support import BUCKET

_WANTED = os.environ.get("ASYNCSTORE_CEPH", "")

collect_ignore_glob = [] if _WANTED else ["test_*.py"]


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A cluster of three OSDs, three copies of each object, and two gateways."""
    why = Ceph.why_not()
    if why is not None:
        if _WANTED == "1":
            pytest.fail(f"ASYNCSTORE_CEPH=1, but Ceph cannot be started here: {why}")
        pytest.skip(f"Ceph cannot be started here: {why}")
    with Ceph(tmp_path_factory.mktemp("ceph")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def gateways(ceph: Ceph) -> list[str]:
    """The URLs of the gateways, with the bucket of the tests made."""

    async def make() -> None:
        async with s3_client(ceph.endpoints[0], ceph.access_key, ceph.secret_key) as client:
            await client.create_bucket(Bucket=BUCKET)

    asyncio.run(make())
    return ceph.endpoints
