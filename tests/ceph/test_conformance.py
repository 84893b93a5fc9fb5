"""The conformance suite on Ceph; what is opened again is opened through the other gateway."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from asyncstore.backends.base import Backend
from asyncstore.backends.bounded import BoundedBackend, Slots
from asyncstore.backends.s3 import S3Backend
from asyncstore.testing import BackendConformance
from tests.servers.ceph import Ceph
from tests.support import s3_uri

_NUMBERS = itertools.count()


class TestCeph(BackendConformance):
    """Each test in a prefix of its own.

    As in a registry, requests are repeated: Ceph answers a read of an object that is overwritten
    at that moment with 500 now and then.
    """

    rounds = 5
    cancellations = 20
    seconds = 60.0
    slots = 64
    checksum = "md5"
    urls: list[str] = []  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _gateways(self, gateways: list[str]) -> None:
        self.urls = gateways

    def on(self, uri: str) -> Backend:
        keys: dict[str, Any] = {
            "access_key_id": Ceph.access_key,
            "secret_access_key": Ceph.secret_key,
        }
        backend = S3Backend.from_uri(uri, checksum=self.checksum, **keys)
        return BoundedBackend(backend, timeout=30, slots=Slots(self.slots))

    async def open(self) -> Backend:
        number = next(_NUMBERS)
        return self.on(s3_uri(self.urls[number % len(self.urls)], f"conformance-{number}"))

    async def reopen(self, backend: Backend) -> Backend | None:
        first, other = self.urls
        if first not in backend.uri:
            first, other = other, first
        return self.on(backend.uri.replace(first, other))


class TestCrc(TestCeph):
    """With the other kind of checksum, and few requests at once."""

    checksum = "crc32"
    slots = 3
