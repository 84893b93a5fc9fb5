"""The conformance suite over S3: moto, exact for conditional writes, and the S3 that counts."""

from __future__ import annotations

import itertools

import pytest

from asyncstore.backends.base import Backend
from asyncstore.backends.bounded import BoundedBackend, Slots
from asyncstore.backends.s3 import S3Backend
from asyncstore.testing import BackendConformance
from tests.servers.process import Server
from tests.support import make_bucket, s3_uri

_NUMBERS = itertools.count()


class OnS3(BackendConformance):
    """Each test in a prefix of its own."""

    rounds = 5
    cancellations = 20

    async def open(self) -> Backend:
        return S3Backend.from_uri(self.uri(), **self.options)

    async def reopen(self, backend: Backend) -> Backend | None:
        return S3Backend.from_uri(backend.uri, **self.options)

    def uri(self) -> str:
        return s3_uri(self.url, f"conformance-{next(_NUMBERS)}")

    url = ""
    options = {"access_key_id": "test", "secret_access_key": "test"}  # noqa: RUF012


class TestMoto(OnS3):
    @pytest.fixture(autouse=True)
    def _server(self, moto_server: Server) -> None:
        self.url = moto_server.url
        make_bucket(self.url)


class TestCounting(OnS3):
    @pytest.fixture(autouse=True)
    def _server(self, counting_server: Server) -> None:
        self.url = counting_server.url


class TestBounded(TestCounting):
    async def open(self) -> Backend:
        return BoundedBackend(await super().open(), timeout=30, slots=Slots(3))

    async def reopen(self, backend: Backend) -> Backend | None:
        return None
