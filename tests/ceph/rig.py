"""Several processes on one prefix of Ceph, every other one by way of the other gateway."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from asyncstore import AsyncRegistry
from asyncstore.backends.s3 import S3Backend
from tests.rigs.processes import Answer, Job, race
from tests.servers.ceph import Ceph
from tests.support import s3_uri

KEYS = {"access_key_id": Ceph.access_key, "secret_access_key": Ceph.secret_key}


def opened(url: str, prefix: str, **options: Any) -> AsyncRegistry:
    """A registry in the bucket of the tests."""
    return AsyncRegistry(s3_uri(url, prefix), **KEYS, **options)


def at_once(
    gateways: Sequence[str], prefix: str, jobs: Sequence[tuple[Job, Any]], **options: Any
) -> list[Answer]:
    """Run each job in a process of its own, all released by one barrier."""
    places = [partial(S3Backend.from_uri, s3_uri(url, prefix), **KEYS) for url in gateways]
    return race(places, jobs, **options)
