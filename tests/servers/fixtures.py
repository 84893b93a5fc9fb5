"""The servers as pytest fixtures: each is started once per session, when a test first needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.control import Control
from tests.servers.process import Server

__all__ = ["counting", "counting_server", "moto_server"]


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """moto's S3, at ``.url``. Every test makes a bucket of its own."""
    with Server.of("tests.servers.moto") as server:
        yield server


@pytest.fixture(scope="session")
def counting_server() -> Iterator[Server]:
    """The S3 that counts, at ``.url``. A test that commands it asks for ``counting``."""
    with Server.of("tests.servers.counting_s3") as server:
        yield server


@pytest.fixture
def counting(counting_server: Server) -> Iterator[Control]:
    """The commands of the S3 that counts, with nothing logged and nothing wrong at the start."""
    control = Control(counting_server.url)
    control.reset()
    yield control
    control.reset()
