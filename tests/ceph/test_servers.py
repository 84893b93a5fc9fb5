"""The cluster itself: both gateways, and daemons that stand still or die."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ceph import Ceph
from tests.servers.client import body_of, fresh_bucket, s3_client, status_of
from tests.servers.fault_proxy import FaultProxy
from tests.servers.process import Server


def _client(ceph: Ceph, gateway: int, url: str = "") -> Any:
    return s3_client(url or ceph.endpoints[gateway], ceph.access_key, ceph.secret_key)


@pytest.mark.asyncio
async def test_what_is_put_through_one_gateway_is_got_through_the_other(ceph: Ceph) -> None:
    async with _client(ceph, 0) as first, _client(ceph, 1) as second:
        bucket = await fresh_bucket(first)
        await first.put_object(Bucket=bucket, Key="k", Body=b"value")
        assert await body_of(second.get_object(Bucket=bucket, Key="k")) == b"value"


@pytest.mark.asyncio
async def test_signatures_are_verified(ceph: Ceph) -> None:
    async with s3_client(ceph.endpoints[0], ceph.access_key, "another") as client:
        assert await status_of(client.create_bucket(Bucket="forged")) == 403


@pytest.mark.asyncio
async def test_signatures_stay_valid_behind_the_proxy(ceph: Ceph) -> None:
    key = "a//b c/../ü+%2F&=?#/"
    with FaultProxy(ceph.endpoints[0]) as proxy:
        async with _client(ceph, 0, proxy.url) as client:
            bucket = await fresh_bucket(client)
            await client.put_object(Bucket=bucket, Key=key, Body=b"value")
            assert await body_of(client.get_object(Bucket=bucket, Key=key)) == b"value"
            listed = await client.list_objects_v2(Bucket=bucket, Prefix="a//b ")
            assert [each["Key"] for each in listed["Contents"]] == [key]


@pytest.mark.asyncio
async def test_of_creates_through_both_gateways_one_wins(ceph: Ceph) -> None:
    async with _client(ceph, 0) as first, _client(ceph, 1) as second:
        bucket = await fresh_bucket(first)

        async def create(client: Any) -> int:
            body = b"x" * 100_000
            return await status_of(
                client.put_object(Bucket=bucket, Key="one", Body=body, IfNoneMatch="*")
            )

        statuses = await asyncio.gather(*(create(each) for each in [first, second] * 8))
        assert Counter(statuses)[200] == 1, statuses


@pytest.mark.asyncio
async def test_an_osd_that_stands_still_delays_a_write_and_no_more(ceph: Ceph) -> None:
    async with _client(ceph, 0) as client:
        bucket = await fresh_bucket(client)
        ceph.stop_osd(0)
        try:
            for number in range(8):
                await client.put_object(Bucket=bucket, Key=f"k{number}", Body=b"value")
        finally:
            ceph.continue_osd(0)
        await asyncio.to_thread(ceph.wait_for_osds, 3)
        for number in range(8):
            assert await body_of(client.get_object(Bucket=bucket, Key=f"k{number}")) == b"value"


@pytest.mark.asyncio
async def test_a_gateway_that_was_killed_comes_back_where_it_was(ceph: Ceph) -> None:
    async with _client(ceph, 0) as first:
        bucket = await fresh_bucket(first)
        await first.put_object(Bucket=bucket, Key="k", Body=b"value")
        url = ceph.endpoints[1]
        ceph.kill_gateway(1)
        await first.put_object(Bucket=bucket, Key="l", Body=b"value")
        await asyncio.to_thread(ceph.start_gateway, 1)
        assert ceph.endpoints[1] == url
        async with _client(ceph, 1) as second:
            assert await body_of(second.get_object(Bucket=bucket, Key="l")) == b"value"


def test_a_cluster_ends_when_the_process_that_started_it_is_killed(
    ceph: Ceph, tmp_path: Path
) -> None:
    code = (
        "import signal, sys; from pathlib import Path; from tests.servers.ceph import Ceph\n"
        "ceph = Ceph(Path(sys.argv[1]), osds=1, replicas=1, gateways=1); ceph.start()\n"
        "print('ready', ceph.endpoints[0].rpartition(':')[2], flush=True); signal.pause()"
    )
    with (
        Server([sys.executable, "-c", code, str(tmp_path)]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        os.kill(server.pid, signal.SIGKILL)
        assert connection.recv(1) == b"", "the gateway lives on"
