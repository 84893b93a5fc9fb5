"""The servers that other tests stand on: they do what is said of them.

Their faults are tested in ``tests/servers``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.client import body_of, fresh_bucket, place, s3_client, status_of
from tests.servers.control import Control
from tests.servers.objects import Bucket
from tests.servers.process import Server, ServerError

MEGABYTE = 1024 * 1024

# ---- processes


def _python(code: str, seconds: float = 20.0) -> Server:
    return Server([sys.executable, "-c", code], seconds=seconds)


def test_a_server_that_fails_to_start_shows_what_it_printed() -> None:
    server = _python("raise SystemExit('no space left on the moon')")
    with pytest.raises(ServerError, match="no space left on the moon"):
        server.start()


def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    server = _python("import time; time.sleep(60)", seconds=0.3)
    with pytest.raises(ServerError, match=r"not ready in 0\.3 s"):
        server.start()


def test_what_stands_behind_ready_is_the_text() -> None:
    with _python("import time; print('ready one two', flush=True); time.sleep(60)") as server:
        assert server.text == "one two"
        os.kill(server.pid, 0)


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="the system does not list open files"
)
def test_a_running_server_keeps_nothing_open_in_its_parent() -> None:
    before = os.listdir("/proc/self/fd")
    with Server.of("tests.servers.counting_s3"):
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell orphans that they are")
def test_a_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal; from tests.servers.process import Server\n"
        "server = Server.of('tests.servers.counting_s3'); server.start()\n"
        "print(server.port, flush=True); signal.pause()"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", code]
    # What a killed parent cannot remove is left in the folder of the test.
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=env) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            parent.send_signal(signal.SIGKILL)
            assert connection.recv(1) == b"", "the server lives on"


# ---- moto


@pytest.mark.asyncio
async def test_of_32_creates_of_large_objects_on_moto_one_wins(moto_server: Server) -> None:
    async with s3_client(moto_server.url) as client:
        bucket = await fresh_bucket(client)

        async def create(number: int) -> int:
            body = bytes([number]) * MEGABYTE
            return await status_of(
                client.put_object(Bucket=bucket, Key="one", Body=body, IfNoneMatch="*")
            )

        statuses = await asyncio.gather(*(create(number) for number in range(32)))
        assert Counter(statuses) == {200: 1, 412: 31}
        winner = statuses.index(200)
        found = await body_of(client.get_object(Bucket=bucket, Key="one"))
        assert found == bytes([winner]) * MEGABYTE


@pytest.mark.asyncio
async def test_of_32_replacements_on_moto_one_wins(moto_server: Server) -> None:
    async with s3_client(moto_server.url) as client:
        bucket = await fresh_bucket(client)
        first = await client.put_object(Bucket=bucket, Key="one", Body=b"first")

        async def replace(number: int) -> int:
            body = bytes([number]) * MEGABYTE
            return await status_of(
                client.put_object(Bucket=bucket, Key="one", Body=body, IfMatch=first["ETag"])
            )

        statuses = await asyncio.gather(*(replace(number) for number in range(32)))
        assert Counter(statuses) == {200: 1, 412: 31}


@pytest.mark.asyncio
async def test_moto_tells_lengths_and_takes_what_is_special_in_keys(moto_server: Server) -> None:
    async with s3_client(moto_server.url) as client:
        bucket = await fresh_bucket(client)
        where = {"Bucket": bucket, "Key": "a//b c/ü+%2F&=?#"}
        await client.put_object(**where, Body=b"12345", Metadata={"a_b": "c"})
        head = await client.head_object(**where)
        assert head["ContentLength"] == 5
        assert await body_of(client.get_object(**where, Range="bytes=1-2")) == b"23"
        listed = await client.list_objects_v2(Bucket=bucket)
        assert [each["Key"] for each in listed["Contents"]] == [where["Key"]]
        assert await status_of(client.head_object(Bucket=bucket, Key="none")) == 404


@pytest.mark.asyncio
async def test_moto_keeps_connections(moto_server: Server) -> None:
    reused: list[bool] = []

    async def note(*_: Any) -> None:
        reused.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(note)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        for body in (None, b"refused, because the bucket is missing" * 1000, None):
            target = f"{moto_server.url}/nowhere/key"
            async with session.put(target, data=body) as answer:
                await answer.read()
    assert len(reused) == 2


# ---- the S3 that counts


@pytest.mark.asyncio
async def test_every_request_is_logged_with_its_kind(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        counting.reset()
        await client.put_object(Bucket=bucket, Key="a/b c", Body=b"1")
        await body_of(client.get_object(Bucket=bucket, Key="a/b c"))
        await client.head_object(Bucket=bucket, Key="a/b c")
        await client.list_objects_v2(Bucket=bucket, Prefix="a/")
        source = {"Bucket": bucket, "Key": "a/b c"}
        await client.copy_object(Bucket=bucket, Key="d", CopySource=source)
        await client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "d"}]})
        await client.delete_object(Bucket=bucket, Key="a/b c")
        log = counting.log()
        assert [(entry.method, entry.kind, entry.key) for entry in log] == [
            ("PUT", "PUT", "a/b c"),
            ("GET", "GET", "a/b c"),
            ("HEAD", "HEAD", "a/b c"),
            ("GET", "LIST", "?a/"),
            ("PUT", "COPY", "d"),
            ("POST", "DELETE", "?"),
            ("DELETE", "DELETE", "a/b c"),
        ]
        assert [entry.seconds for entry in log] == sorted(entry.seconds for entry in log)
        assert counting.peak() == 1
        assert (await client.list_objects_v2(Bucket=bucket))["KeyCount"] == 0


@pytest.mark.asyncio
async def test_of_32_conditional_writes_one_wins(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):

        async def put(**condition: str) -> int:
            body = b"x" * 100_000
            return await status_of(
                client.put_object(Bucket=bucket, Key="one", Body=body, **condition)
            )

        creates = await asyncio.gather(*(put(IfNoneMatch="*") for _ in range(32)))
        assert Counter(creates) == {200: 1, 412: 31}
        await client.put_object(Bucket=bucket, Key="one", Body=b"first")
        etag = (await client.head_object(Bucket=bucket, Key="one"))["ETag"]
        replacements = await asyncio.gather(*(put(IfMatch=etag) for _ in range(32)))
        assert Counter(replacements) == {200: 1, 412: 31}
        missing = client.put_object(Bucket=bucket, Key="none", Body=b"", IfMatch=etag)
        assert await status_of(missing) == 404


@pytest.mark.asyncio
async def test_ranges_and_metadata(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        await client.put_object(Bucket=bucket, Key="k", Body=b"0123456789", Metadata={"a_b": "c"})
        head = await client.head_object(Bucket=bucket, Key="k")
        assert head["ContentLength"] == 10
        assert head["Metadata"] == {"a_b": "c"}
        for wanted, expected in {"2-4": b"234", "7-": b"789", "-2": b"89", "8-99": b"89"}.items():
            part = client.get_object(Bucket=bucket, Key="k", Range=f"bytes={wanted}")
            assert await body_of(part) == expected
        outside = client.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
        assert await status_of(outside) == 416
        other = client.get_object(Bucket=bucket, Key="k", IfMatch='"other"')
        assert await status_of(other) == 412


@pytest.mark.asyncio
async def test_a_multipart_upload_appears_when_it_is_completed(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        where = {"Bucket": bucket, "Key": "big"}
        upload = (await client.create_multipart_upload(**where))["UploadId"]
        listed = await client.list_multipart_uploads(Bucket=bucket)
        assert [each["UploadId"] for each in listed["Uploads"]] == [upload]
        parts: list[dict[str, Any]] = []
        for number, body in ((2, b"world"), (1, b"hello ")):
            answer = await client.upload_part(
                **where, UploadId=upload, PartNumber=number, Body=body
            )
            parts.insert(0, {"PartNumber": number, "ETag": answer["ETag"]})
        assert await status_of(client.head_object(**where)) == 404
        done = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        await client.complete_multipart_upload(**where, **done, IfNoneMatch="*")
        assert await body_of(client.get_object(**where)) == b"hello world"
        assert await status_of(client.complete_multipart_upload(**where, **done)) == 404
        other = (await client.create_multipart_upload(**where))["UploadId"]
        await client.abort_multipart_upload(**where, UploadId=other)
        assert "Uploads" not in await client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.asyncio
async def test_a_chunked_body_is_stored_without_its_chunks(counting: Control) -> None:
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "Expect": "100-continue",
    }
    body = b"5\r\nhello\r\n6;chunk-signature=0\r\n world\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n"
    target = f"{counting.url}/chunks/key"
    async with aiohttp.ClientSession() as session:
        async with session.put(target, data=body, headers=headers) as answer:
            assert answer.status == 200
        async with session.get(target) as answer:
            assert await answer.read() == b"hello world"
            assert "Content-Encoding" not in answer.headers


@pytest.mark.asyncio
async def test_what_is_listed_in_pages_is_what_is_there(counting: Control) -> None:
    keys = ["a/1", "a/2", "b", "c/x/1", "c/y", "d & <e>", "ü"]
    async with place(counting.url) as (client, bucket):
        for key in keys:
            await client.put_object(Bucket=bucket, Key=key, Body=b"12")
        pages = client.get_paginator("list_objects_v2").paginate
        size = {"PageSize": 2}
        seen = [page async for page in pages(Bucket=bucket, PaginationConfig=size)]
        assert [each["Key"] for page in seen for each in page["Contents"]] == keys
        assert len(seen) == 4
        flat = [page async for page in pages(Bucket=bucket, Delimiter="/", PaginationConfig=size)]
        assert [each["Key"] for page in flat for each in page.get("Contents", [])] == [
            "b",
            "d & <e>",
            "ü",
        ]
        common = [each["Prefix"] for page in flat for each in page.get("CommonPrefixes", [])]
        assert common == ["a/", "c/"]
        later = await client.list_objects_v2(Bucket=bucket, StartAfter="c/x/1", MaxKeys=1)
        assert [each["Key"] for each in later["Contents"]] == ["c/y"]


@given(
    keys=st.sets(st.text("ab/", min_size=1, max_size=5), max_size=12),
    prefix=st.text("ab/", max_size=2),
    delimiter=st.sampled_from(["", "/"]),
    limit=st.integers(1, 4),
    shuffled=st.booleans(),
)
def test_pages_put_together_are_the_whole_listing(
    keys: set[str], prefix: str, delimiter: str, limit: int, shuffled: bool
) -> None:
    bucket = Bucket("test")
    for key in keys:
        bucket.put(key, b"", {})
    names: list[str] = []
    token: str | None = ""
    while token is not None:
        if shuffled:
            page = bucket.shuffled_page(prefix, delimiter, token, limit)
        else:
            page = bucket.page(prefix, delimiter, "", token, limit)
        assert len(page.keys) + len(page.prefixes) <= limit
        names += sorted(page.keys + page.prefixes)
        token = page.token
    expected = set()
    for key in keys:
        if key.startswith(prefix):
            head, cut, _ = key[len(prefix) :].partition("/")
            expected.add(prefix + head + cut if delimiter and cut else key)
    assert sorted(names) == sorted(expected)
    assert shuffled or names == sorted(names)


@pytest.mark.asyncio
async def test_a_delay_holds_for_every_request_and_they_overlap(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        await client.put_object(Bucket=bucket, Key="k", Body=b"1")
        counting.delay(100)
        clock = asyncio.get_running_loop().time
        start = clock()
        heads = (client.head_object(Bucket=bucket, Key="k") for _ in range(8))
        await asyncio.gather(*heads)
        assert 0.1 <= clock() - start < 0.6
        assert counting.peak() >= 4


@pytest.mark.asyncio
async def test_failing_requests_do_nothing(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        counting.fail(n=2, status=503, match="PUT a")
        put = {"Bucket": bucket, "Body": b"1"}
        assert await status_of(client.put_object(Key="b", **put)) == 200
        with pytest.raises(ClientError, match="SlowDown"):
            await client.put_object(Key="a", **put)
        assert await status_of(client.put_object(Key="a", **put)) == 503
        assert await status_of(client.head_object(Bucket=bucket, Key="a")) == 404
        assert await status_of(client.put_object(Key="a", **put)) == 200


@pytest.mark.asyncio
async def test_hanging_requests_go_on_when_they_are_released(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        counting.hang("PUT slow")
        slow = asyncio.create_task(client.put_object(Bucket=bucket, Key="slow", Body=b"1"))
        await client.put_object(Bucket=bucket, Key="fast", Body=b"1")
        assert await status_of(client.head_object(Bucket=bucket, Key="slow")) == 404
        assert not slow.done()
        counting.release()
        await slow
        assert await status_of(client.head_object(Bucket=bucket, Key="slow")) == 200


@pytest.mark.asyncio
async def test_a_lost_reply_leaves_what_was_done(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        put = {"Bucket": bucket, "Key": "k", "Body": b"1"}
        counting.lose(2, "PUT")
        # aiobotocore calls a reset "Could not connect", although the request had been carried out.
        with pytest.raises(BotoCoreError):
            await client.put_object(**put)
        assert await body_of(client.get_object(Bucket=bucket, Key="k")) == b"1"


@pytest.mark.asyncio
async def test_aiohttp_repeats_a_create_whose_reply_was_lost(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        counting.reset()
        counting.lose(1, "PUT")
        put = client.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
        assert await status_of(put) == 412, "the writer is refused because of its own object"
        assert [entry.kind for entry in counting.log()] == ["PUT", "PUT"]


@pytest.mark.asyncio
async def test_conflicts_come_to_conditional_writes_alone(counting: Control) -> None:
    async with place(counting.url) as (client, bucket):
        counting.conflict(1)
        put = {"Bucket": bucket, "Key": "k", "Body": b"1"}
        assert await status_of(client.put_object(**put)) == 200
        with pytest.raises(ClientError, match="ConditionalRequestConflict"):
            await client.put_object(**put, IfNoneMatch="*")
        assert await status_of(client.put_object(**put, IfNoneMatch="*")) == 412
