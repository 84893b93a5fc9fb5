"""Where a bucket is and how to sign in: what may be said, what is refused, what is never shown."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from blockbuster import BlockBuster
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    BackendError,
    RegistrySettingsConflict,
    check_backend,
)
from asyncstore.backends.s3 import S3Backend, S3Options
from asyncstore.backends.s3.address import S3Address, parse_address
from tests.servers.client import fresh_bucket, s3_client
from tests.servers.control import Control
from tests.servers.process import Server
from tests.support import BUCKET, fresh_name, make_bucket, s3_uri

SECRET = "hunter2-is-no-secret"
ID = "AKIA-OF-NOBODY"
TOKEN = "token-of-nobody"
KEYS = {"access_key_id": ID, "secret_access_key": SECRET, "session_token": TOKEN}


def shows_a_secret(text: str) -> bool:
    return SECRET in text or TOKEN in text


# -- reading an address


def test_a_bucket_and_a_prefix() -> None:
    found = parse_address("s3://models/prod/eu", {})
    assert (found.bucket, found.prefix, found.options) == ("models", "prod/eu", S3Options())


@pytest.mark.parametrize("uri", ["s3://models", "s3://models/"])
def test_a_bucket_alone(uri: str) -> None:
    assert parse_address(uri, {}) == S3Address("models", "", S3Options())


OPTIONS = {
    "endpoint_url": "http://127.0.0.1:9000",
    "region": "eu-central-1",
    "profile": "work",
    "addressing": "virtual",
    "checksum": "crc32",
    "anonymous": "true",
}


@pytest.mark.parametrize(("name", "value"), OPTIONS.items())
def test_an_option_stands_in_the_uri_or_in_a_keyword(name: str, value: str) -> None:
    in_uri = parse_address(f"s3://models/prod?{name}={value}", {})
    assert in_uri == parse_address("s3://models/prod", {name: value})
    assert in_uri == parse_address(f"s3://models/prod?{name}={value}", {name: value})
    expected = True if name == "anonymous" else value
    assert getattr(in_uri.options, name) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False)]
)
def test_anonymous_in_words(text: str, expected: bool) -> None:
    assert parse_address(f"s3://b?anonymous={text}", {}).options.anonymous is expected


def test_options_that_only_keywords_have() -> None:
    options = {"connections": 3, "connect_timeout": 1.5, "read_timeout": 2.5}
    found = parse_address("s3://models", options).options
    assert (found.connections, found.connect_timeout, found.read_timeout) == (3, 1.5, 2.5)


@pytest.mark.parametrize("beginning", ["", "aws_"])
def test_both_spellings_of_credentials(beginning: str) -> None:
    given = {f"{beginning}{name}": value for name, value in KEYS.items()}
    found = parse_address("s3://models", given).options
    assert (found.access_key_id, found.secret_access_key, found.session_token) == (
        ID, SECRET, TOKEN,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "options", "message"),
    [
        ("s3://", {}, "no bucket name"),
        ("s3:///prefix", {}, "no bucket name"),
        ("s3://b/a//b", {}, "no prefix"),
        ("s3://b/a/../b", {}, "no prefix"),
        ("s3://b/%2e%2e/b", {}, "no prefix"),
        ("s3://b/a/./b", {}, "no prefix"),
        ("s3://b/a%00b", {}, "no prefix"),
        (f"s3://b/{'x' * 513}", {}, "513 bytes, and 512"),
        (f"s3://b/{'ü' * 300}", {}, "600 bytes, and 512"),
        ("s3://b/p#fragment", {}, "%23"),
        ("s3://b?region=a&region=b", {}, "given twice"),
        ("s3://b?region=a", {"region": "b"}, "region is given twice"),
        ("s3://b?region_name=a", {"region": "b"}, "region is given twice"),
        ("s3://b?reguon=a", {}, "did you mean 'region'"),
        ("s3://b", {"endpoint_ur": "http://x"}, "did you mean 'endpoint_url'"),
        ("s3://b", {"acess_key_id": ID}, "did you mean 'access_key_id'"),
        ("s3://b", {"aws_secret_key": SECRET}, "did you mean 'aws_secret_access_key'"),
        ("s3://b", {"zzzz": 1}, "Known are endpoint_url, region"),
        ("s3://b?read_timeout=3", {}, "no part of an s3:// URI"),
        ("s3://b", {"addressing": "sideways"}, "expected one of 'auto', 'path', 'virtual'"),
        ("s3://b?checksum=sha1", {}, "expected one of 'md5', 'crc32', 'none'"),
        ("s3://b?anonymous=maybe", {}, "expected true or false"),
        ("s3://b", {"access_key_id": ID}, "go together"),
        ("s3://b", {"secret_access_key": SECRET}, "go together"),
        ("s3://b?endpoint_url=ftp://x", {}, "expected http://host:port"),
        ("s3://b?endpoint_url=127.0.0.1:9000", {}, "expected http://host:port"),
        ("s3://b", {"endpoint_url": "http://"}, "expected http://host:port"),
    ],
)
def test_what_is_no_address_is_refused(uri: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistrySettingsConflict) as caught:
        AsyncRegistry(uri, **options)
    assert message in str(caught.value)
    assert not shows_a_secret(str(caught.value))


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://{ID}:{SECRET}@models/prod",
        f"s3://{SECRET}@models/prod",
        f"s3://models/prod?secret_access_key={SECRET}&access_key_id={ID}",
        f"s3://models/prod?aws_secret_access_key={SECRET}",
        f"s3://models/prod?session_token={TOKEN}",
        f"s3://models/prod?endpoint_url=http://{ID}:{SECRET}@127.0.0.1:9000",
        f"s3://models/prod?endpoint_url=http://127.0.0.1:9000/?token={SECRET}",
        f"s3://{ID}:{SECRET}/models",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(RegistrySettingsConflict) as caught:
        AsyncRegistry(uri)
    shown = str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    assert not shows_a_secret(shown)


@pytest.mark.parametrize("target", ["folder", Path("folder"), "file:///folder", "memory://"])
def test_only_a_service_takes_options(target: str | Path) -> None:
    with pytest.raises(RegistrySettingsConflict, match=r"region: .* takes no such arguments"):
        AsyncRegistry(target, region="x")
    with pytest.raises(RegistrySettingsConflict) as caught:
        AsyncRegistry(target, **KEYS)
    assert not shows_a_secret(str(caught.value))


def test_a_backend_that_is_handed_in_takes_no_options() -> None:
    with pytest.raises(RegistrySettingsConflict, match="handed in takes no such arguments"):
        AsyncRegistry(S3Backend("models"), region="x")


# -- writing it again

_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
_SEGMENT = st.text(_CHARACTERS, min_size=1, max_size=12).filter(
    lambda text: text not in {".", ".."}
)
_PREFIXES = st.lists(_SEGMENT, max_size=4).map("/".join)
_BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,30}[a-z0-9]", fullmatch=True)
_ENDPOINTS = st.none() | st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["127.0.0.1", "s3.example.org", "[::1]", "host"]),
    st.sampled_from(["", ":9000"]),
    st.sampled_from(["", "/", "/base"]),
)
_REGIONS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(_BUCKETS, _PREFIXES, _ENDPOINTS, _REGIONS)
@example("models", "a b/ü?#%&=+/100%25", "http://127.0.0.1:9000", "a&b=c+d e%20")
@settings(max_examples=600, deadline=None)
def test_a_uri_opens_what_it_was_written_for(
    bucket: str, prefix: str, endpoint: str | None, region: str | None
) -> None:
    options = S3Options(endpoint_url=endpoint, region=region)
    address = S3Address(bucket, prefix, options)
    assert parse_address(address.uri, {}) == address
    assert parse_address(parse_address(address.uri, {}).uri, {}) == address


@given(_BUCKETS, _PREFIXES, st.sampled_from(sorted(KEYS)))
@settings(max_examples=100, deadline=None)
def test_no_uri_shows_credentials(bucket: str, prefix: str, name: str) -> None:
    registry = AsyncRegistry(S3Backend(bucket, prefix, options=S3Options(**KEYS)))
    for shown in (registry.uri, repr(registry), repr(registry.backend), repr(S3Options(**KEYS))):
        assert KEYS[name] not in shown


# -- signing in


@pytest_asyncio.fixture
async def place(moto_server: Server) -> str:
    """The URI of a place of the test's own on moto."""
    make_bucket(moto_server.url)
    return s3_uri(moto_server.url, f"address-{fresh_name()}")


def allow(blockbuster: BlockBuster, name: str) -> None:
    """Let a function of the module that makes clients block."""
    for function in blockbuster.functions.values():
        function.can_block_in("asyncstore/backends/s3/client.py", {name})


@pytest.fixture
def signed_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blockbuster: BlockBuster
) -> pytest.MonkeyPatch:
    """A machine without credentials."""
    # A worker looks for them, in an event loop of its own that nobody else waits for.
    allow(blockbuster, "_open")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / ".aws" / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


@pytest.mark.asyncio
async def test_credentials_of_the_environment(place: str, signed_out: pytest.MonkeyPatch) -> None:
    signed_out.setenv("AWS_ACCESS_KEY_ID", ID)
    signed_out.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    async with AsyncRegistry(place) as registry:
        assert await registry.save("x", 1) == "1.0.0"
        assert await registry.load("x") == 1


@pytest.mark.asyncio
async def test_credentials_of_a_profile(
    place: str, signed_out: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[work]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"
    )
    async with AsyncRegistry(f"{place}&profile=work") as registry:
        assert await registry.save("x", 1) == "1.0.0"
    async with AsyncRegistry(place, profile="work") as registry:
        assert await registry.load("x") == 1
    async with AsyncRegistry(place, profile="play") as registry:
        with pytest.raises(BackendError, match="play"):
            await registry.load("x")


@pytest.mark.asyncio
@pytest.mark.parametrize("operation", ["load", "has_object", "delete"])
async def test_no_credentials_at_all(
    place: str, signed_out: pytest.MonkeyPatch, blockbuster: BlockBuster, operation: str
) -> None:
    async with AsyncRegistry(place) as registry:
        with pytest.raises(BackendError, match="no credentials were found") as caught:
            await getattr(registry, operation)("x")
        with pytest.raises(BackendError, match="no credentials were found"):
            await registry.save("x", 1)
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(caught.value)
    assert "access_key_id=" in str(caught.value)


@pytest.mark.asyncio
async def test_the_search_for_credentials_blocks_nobody(
    place: str, signed_out: pytest.MonkeyPatch
) -> None:
    async with AsyncRegistry(place) as registry:
        with pytest.raises(BackendError, match="no credentials were found"):
            await registry.load("x")


@pytest.mark.asyncio
async def test_anonymous_requests_need_no_credentials(
    counting: Control, signed_out: pytest.MonkeyPatch
) -> None:
    async with AsyncRegistry(f"{s3_uri(counting.url, fresh_name())}&anonymous=true") as registry:
        assert await registry.save("x", 1) == "1.0.0"
        assert await registry.load("x") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("checksum", ["md5", "crc32", "none"])
async def test_every_checksum_is_taken(place: str, checksum: str) -> None:
    large = bytes(range(256)) * 2000
    async with AsyncRegistry(place, checksum=checksum, **KEYS) as registry:
        await registry.save(["small", "large"], [1, large])
        assert (await registry.load(["small", "large"])).results == [1, large]


@pytest.mark.asyncio
async def test_a_uri_is_a_mount(place: str, signed_out: pytest.MonkeyPatch) -> None:
    signed_out.setenv("AWS_ACCESS_KEY_ID", ID)
    signed_out.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    async with AsyncStore({"far": place, "near": "memory://"}) as store:
        await store.save("far/x", "value")
        assert await store.load("x") == "value"
        assert store.list_mount_info()["far"]["uri"] == place


# -- a client that is handed in


@pytest.mark.asyncio
async def test_a_client_that_is_handed_in_is_used_and_stays_open(
    counting: Control, signed_out: pytest.MonkeyPatch
) -> None:
    async with s3_client(counting.url) as client:
        bucket = await fresh_bucket(client)
        backend = S3Backend(bucket, "place", client=client)
        async with AsyncRegistry(backend) as registry:
            await registry.save("x", 1)
        await backend.aclose()
        uri = f"s3://{bucket}/place"
        async with AsyncRegistry(uri, client=client) as registry:
            assert await registry.load("x") == 1
        listed = await client.list_objects_v2(Bucket=bucket, Prefix="place/m/")
        assert listed["KeyCount"] == 1


# -- what is never shown


@pytest_asyncio.fixture
async def failing(
    counting: Control, request: pytest.FixtureRequest
) -> AsyncIterator[AsyncRegistry]:
    """A registry whose every request fails, in the way that the parameter says."""
    url = counting.url
    if request.param == "nobody":
        url = "http://127.0.0.1:9"
    else:
        counting.fail(n=10_000, status=request.param)
    uri = s3_uri(url, fresh_name())
    repeated = request.param in {"nobody", 500, 503}  # until the time is up
    timeout = 0.5 if repeated else 30.0
    async with AsyncRegistry(uri, operation_timeout=timeout, **KEYS) as registry:
        yield registry


@pytest.mark.asyncio
@pytest.mark.parametrize("failing", ["nobody", 403, 400, 500, 503], indirect=True)
async def test_no_error_shows_credentials(
    failing: AsyncRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asyncstore")
    for operation in (
        lambda: failing.load("x"),
        lambda: failing.has_object("x"),
        lambda: failing.save("x", 1),
        lambda: failing.delete("x"),
        lambda: failing.list_objects(),
        lambda: check_backend(failing.uri, **KEYS),
    ):
        with pytest.raises(BackendError) as caught:
            await operation()
        error: BaseException | None = caught.value
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), str(error))
        assert BUCKET in str(error)
        assert not shows_a_secret(pickle.dumps(error).decode("latin-1"))
        while error is not None:  # everything that a traceback prints
            assert not shows_a_secret(str(error) + repr(error))
            error = error.__cause__ or error.__context__
    assert not shows_a_secret(repr(failing) + repr(failing.backend) + failing.uri)
    ours = [record for record in caplog.records if record.name.startswith("asyncstore")]
    assert not any(shows_a_secret(record.getMessage()) for record in ours)


@pytest.mark.asyncio
@pytest.mark.parametrize("failing", [403], indirect=True)
async def test_a_refusal_says_what_to_check(failing: AsyncRegistry) -> None:
    with pytest.raises(BackendError, match=r"denied \(403 AccessDenied\): check the credentials"):
        await failing.load("x")


@pytest.mark.asyncio
async def test_nothing_that_is_stored_shows_credentials(counting: Control) -> None:
    async with s3_client(counting.url) as client:
        bucket = await fresh_bucket(client)
        uri = f"s3://{bucket}/place?endpoint_url={counting.url}&region=us-east-1"
        async with AsyncRegistry(uri, **KEYS) as registry:
            await registry.save("x", "inline")
            await registry.save("large", bytes(100_000), metadata={"a": 1})
            await registry.delete("x")
            assert not shows_a_secret(str(await registry.info("large")))
            assert not shows_a_secret(str(await registry.info()))
            assert not shows_a_secret(repr(await registry.load_record("large")))
        listed = await client.list_objects_v2(Bucket=bucket)
        keys = [found["Key"] for found in listed["Contents"]]
        assert len(keys) >= 4
        for key in keys:
            reply = await client.get_object(Bucket=bucket, Key=key)
            async with reply["Body"] as body:
                stored = (await body.read()).decode("latin-1")
            assert not shows_a_secret(stored)
            assert ID not in stored
            assert "127.0.0.1" not in stored


@pytest.mark.asyncio
async def test_registries_that_sign_in_otherwise_share_no_client(counting: Control) -> None:
    uri = s3_uri(counting.url, fresh_name())
    async with (
        AsyncRegistry(uri, **KEYS) as one,
        AsyncRegistry(uri, access_key_id="other", secret_access_key="other") as two,
    ):
        await one.save("x", 1)
        await one.aclose()
        assert await two.load("x") == 1
        assert await one.load("x") == 1  # opened again
        assert await asyncio.gather(one.load("x"), two.load("x")) == [1, 1]
