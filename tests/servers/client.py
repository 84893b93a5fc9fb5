"""A bare client of S3, with nothing of asyncstore: what the servers are tested with."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiobotocore.session import AioSession, get_session
from botocore.config import Config
from botocore.exceptions import ClientError

_NUMBERS = itertools.count(1)


@cache
def _session() -> AioSession:
    """One for all clients: it reads the descriptions of the services, which takes half a second."""
    return get_session()


@asynccontextmanager
async def s3_client(
    url: str, access_key: str = "test", secret_key: str = "test", *, read_timeout: float = 20.0
) -> AsyncIterator[Any]:
    """An aiobotocore client without retries, and with connections for many at a time.

    Without those of botocore, that is. The aiohttp beneath it repeats GET, HEAD, PUT and DELETE
    once by itself, at once, when a connection breaks before the answer, conditional writes too.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        retries={"max_attempts": 0},
        max_pool_connections=64,
        s3={"addressing_style": "path"},
    )
    async with _session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    ) as client:
        yield client


async def fresh_bucket(client: Any, beginning: str = "test") -> str:
    """Make a bucket with a name that this process has not used."""
    name = f"{beginning}-{next(_NUMBERS)}"
    await client.create_bucket(Bucket=name)
    return name


@asynccontextmanager
async def place(url: str, beginning: str = "test") -> AsyncIterator[tuple[Any, str]]:
    """A client and a bucket of its own, at a server that verifies no signatures."""
    async with s3_client(url) as client:
        yield client, await fresh_bucket(client, beginning)


async def status_of(work: Any) -> int:
    """The HTTP status that a request ended with, whether it was refused or not."""
    try:
        answer = await work
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


async def body_of(work: Any) -> bytes:
    """The body that a GET brings."""
    answer = await work
    async with answer["Body"] as body:
        return bytes(await body.read())
