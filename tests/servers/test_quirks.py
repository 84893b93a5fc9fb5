"""The S3 that counts, when it is a bad S3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.servers.client import body_of, place, s3_client, status_of
from tests.servers.control import Control
from tests.servers.objects import Quirk, quirks_in


def test_quirks_are_chained_in_the_name_of_a_bucket() -> None:
    assert quirks_in("photos-unordered") == frozenset()
    assert quirks_in("missing17") == {Quirk.MISSING}
    assert quirks_in("unquoted-race-500-photos") == {Quirk.UNQUOTED, Quirk.RACE_500}


async def _conditional(client: Any, bucket: str) -> dict[str, int]:
    """How conditional writes are answered."""
    first = await client.put_object(Bucket=bucket, Key="k", Body=b"1")
    etag = first["ETag"]
    conditions = {
        "create": {"IfNoneMatch": "*"},
        "stale": {"IfMatch": '"00000000000000000000000000000000"'},
        "bare": {"IfMatch": etag.strip('"')},
        "quoted": {"IfMatch": etag},
    }
    # The same bytes each time, so that the ETag stays.
    return {
        name: await status_of(client.put_object(Bucket=bucket, Key="k", Body=b"1", **condition))
        for name, condition in conditions.items()
    }


GOOD = {"create": 412, "stale": 412, "bare": 200, "quoted": 200}


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("quirk", "difference"),
    [
        (None, {}),
        (Quirk.IGNORES_IF_NONE_MATCH, {"create": 200}),
        (Quirk.IGNORES_IF_MATCH, {"stale": 200}),
        (Quirk.NO_CONDITIONS, dict.fromkeys(GOOD, 501)),
        (Quirk.UNQUOTED, {"quoted": 412}),
        (Quirk.RACE_500, {"stale": 500}),
        (Quirk.UNORDERED, {}),
    ],
)
@pytest.mark.asyncio
async def test_quirks_of_conditional_writes(
    counting: Control, quirk: Quirk | None, difference: dict[str, int], everywhere: bool
) -> None:
    if quirk is not None and everywhere:
        counting.be(quirk)
    beginning = "test" if quirk is None or everywhere else quirk.value
    async with place(counting.url, beginning) as (client, bucket):
        assert await _conditional(client, bucket) == {**GOOD, **difference}
        if quirk is not None and everywhere:
            counting.be(quirk, on=False)
            assert await _conditional(client, bucket) == GOOD


@pytest.mark.asyncio
async def test_a_missing_bucket(counting: Control) -> None:
    async with s3_client(counting.url) as client:
        with pytest.raises(ClientError, match="NoSuchBucket"):
            await client.get_object(Bucket="missing-1", Key="k")
        with pytest.raises(ClientError, match="NoSuchBucket"):
            await client.list_objects_v2(Bucket="missing-1")


@pytest.mark.asyncio
async def test_an_unordered_listing_is_whole(counting: Control) -> None:
    keys = [f"{number:02}" for number in range(20)]
    async with place(counting.url, "unordered") as (client, bucket):
        for key in keys:
            await client.put_object(Bucket=bucket, Key=key, Body=b"")
        pages = client.get_paginator("list_objects_v2").paginate
        found: list[str] = []
        async for page in pages(Bucket=bucket, PaginationConfig={"PageSize": 7}):
            found += [each["Key"] for each in page["Contents"]]
        assert found != keys
        assert sorted(found) == keys


@pytest.mark.asyncio
async def test_a_proxy_that_encrypts_lists_more_bytes(counting: Control) -> None:
    async with place(counting.url, "encrypting") as (client, bucket):
        await client.put_object(Bucket=bucket, Key="k", Body=b"12345")
        listed = await client.list_objects_v2(Bucket=bucket)
        assert listed["Contents"][0]["Size"] == 21
        assert await body_of(client.get_object(Bucket=bucket, Key="k")) == b"12345"
