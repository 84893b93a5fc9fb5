"""Keys as users write them, and the help they get when they write them wrong."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import StoreKeyFormatError, StoreLocationNotFound
from asyncstore.keys import (
    check_location,
    close_name,
    join_key,
    split_key,
    split_name,
    unknown_location,
    unqualified_write,
)

thorough = settings(max_examples=10_000, deadline=None)

PIECES = [*"abAB01:/!=,.()%-_ ", "é", "模", "..", "//", "prod", "Prod", "s3:", "/prod", "prod/"]
VERSIONS = [None, "latest", "1", "v1", "1.0.0", "2.3", "0", "1.2.3.4.5.6.7"]


def _text(data: bytes) -> str:
    return "".join(PIECES[byte % len(PIECES)] for byte in data).strip() or "x"


@thorough
@given(st.binary(min_size=6, max_size=24))
def test_the_parts_of_a_key_come_back(data: bytes) -> None:
    mounted = {_text(data[i : i + 2]).replace("/", "").strip() or "m" for i in (0, 1, 2)}
    location = min(mounted)
    name, version = _text(data[3:-1]), VERSIONS[data[-1] % len(VERSIONS)]
    qualified = join_key(location, name, version)
    assert check_location(location) == location
    assert split_key(qualified, mounted) == (location, name, version)
    assert split_key(join_key(location, name), mounted, version) == (location, name, version)
    # Without its mount it is unqualified, unless its own first segment is a mount's name (N4).
    first, slash, _ = name.partition("/")
    plain = qualified.removeprefix(location + "/")
    if not slash or first not in mounted:
        assert split_key(plain, mounted) == (None, name, version)
    assert split_key(qualified, ()) == (None, f"{location}/{name}", version)


@pytest.mark.parametrize(
    ("key", "mounted", "parts"),
    [
        ("a", (), (None, "a", None)),
        ("prod/a", ("prod",), ("prod", "a", None)),
        ("prod/a", ("dev",), (None, "prod/a", None)),
        ("Prod/a", ("prod",), (None, "Prod/a", None)),
        ("prod", ("prod",), (None, "prod", None)),
        ("prod/prod/a", ("prod",), ("prod", "prod/a", None)),
        ("prod/a@v1.2", ("prod",), ("prod", "a", "v1.2")),
        ("prod/a@latest", ("prod",), ("prod", "a", "latest")),
        ("vision/Detector:v1@3", ("prod",), (None, "vision/Detector:v1", "3")),
        ("prod//etc/passwd", ("prod",), ("prod", "/etc/passwd", None)),
        ("prod/../x", ("prod",), ("prod", "../x", None)),
        ("/a", ("prod",), (None, "/a", None)),
        ("a b/c", ("a b",), ("a b", "c", None)),
    ],
)
def test_splitting(
    key: str, mounted: tuple[str, ...], parts: tuple[str | None, str, str | None]
) -> None:
    assert split_key(key, mounted) == parts


@pytest.mark.parametrize(
    ("key", "version", "parts"),
    [
        ("a", None, ("a", None)),
        ("a", "1", ("a", "1")),
        ("a", "latest", ("a", "latest")),
        ("a@1", None, ("a", "1")),
        ("a@1", "1", ("a", "1")),
        ("a@1", "v1.0.0", ("a", "1")),
        ("a@latest", "latest", ("a", "latest")),
    ],
)
def test_a_version_in_the_key_or_as_an_argument(
    key: str, version: str | None, parts: tuple[str, str | None]
) -> None:
    assert split_name(key, version) == parts
    assert split_key(f"m/{key}", ["m"], version) == ("m", *parts)


@pytest.mark.parametrize(
    ("key", "version"),
    [("a@1", "2"), ("a@1", "1.0.1"), ("a@latest", "1"), ("a@1", "latest"), ("m/a@1.0", "1.1")],
)
def test_two_different_versions_are_refused(key: str, version: str) -> None:
    said = key.partition("@")[2]
    message = f"says version {said!r}, and version={version!r}: give one of them"
    with pytest.raises(StoreKeyFormatError, match=re.escape(message)):
        split_key(key, ["m"], version)


@pytest.mark.parametrize(
    ("key", "version", "message"),
    [
        ("", None, "'' cannot name an object: it is empty"),
        ("@1", None, "'' cannot name an object: it is empty"),
        ("m/", None, "'' cannot name an object: it is empty"),
        ("m/@1", None, "'' cannot name an object: it is empty"),
        ("m/ a", None, "white space at its ends; did you mean 'a'?"),
        ("a @1", None, "white space at its ends; did you mean 'a'?"),
        ("a\0", None, "NUL"),
        ("a@", None, "'' is no version: expected numbers joined by dots"),
        ("a@@1", None, "'@1' is no version"),
        ("a@1@2", None, "'1@2' is no version"),
        ("a@1/b", None, "'1/b' is no version"),
        ("a@newest", None, "'newest' is no version"),
        ("a", "", "'' is no version"),
        ("a", "x", "'x' is no version"),
        ("a@1", "x", "'x' is no version"),
        ("a@x", "1", "'x' is no version"),
        ("a", 1, "a version must be a str such as '1.0.0', got int (1)"),
        ("a@1", 1.0, "a version must be a str such as '1.0.0', got float (1.0)"),
        (None, None, "a key must be a str, got NoneType (None)"),
        (b"a", None, "a key must be a str, got bytes (b'a')"),
        (("a", "1"), None, "a key must be a str, got tuple (('a', '1'))"),
    ],
)
def test_malformed_keys_say_why(key: object, version: object, message: str) -> None:
    with pytest.raises(StoreKeyFormatError, match=re.escape(message)):
        split_key(key, ["m"], version)


@pytest.mark.parametrize("location", ["prod", "Prod", "a b", "a:b", "..", "模型", "s3"])
def test_names_of_mounts(location: str) -> None:
    assert check_location(location) == location


@pytest.mark.parametrize("location", ["", " ", " a", "a\n", "a/b", "/", "a@b", "a\0b"])
def test_what_cannot_name_a_mount(location: str) -> None:
    message = f"{location!r} cannot name a mount: expected text without '/' and '@'"
    with pytest.raises(StoreKeyFormatError, match=re.escape(message)):
        check_location(location)


@pytest.mark.parametrize("location", [None, 1, b"a", ["a"]])
def test_a_mount_is_named_by_text(location: object) -> None:
    with pytest.raises(StoreKeyFormatError, match="a mount's name must be a str, got "):
        check_location(location)


@pytest.mark.parametrize(
    ("location", "mounted", "message"),
    [
        ("prdo", ["dev", "prod"], "no mount is named 'prdo'; did you mean 'prod'?"),
        ("PROD", ["dev", "prod"], "no mount is named 'PROD'; did you mean 'prod'?"),
        ("prod", ["dev", "Prod-EU"], "no mount is named 'prod'; did you mean 'Prod-EU'?"),
        ("x", ["dev", "prod"], "no mount is named 'x'; mounted: 'dev', 'prod'"),
        ("x", [], "no mount is named 'x'; mounted: nothing"),
        (
            "x",
            [f"mount{i}" for i in range(10)],
            "no mount is named 'x'; mounted: 'mount0', 'mount1', 'mount2', 'mount3', 'mount4', "
            "'mount5', 'mount6', 'mount7' and 2 more",
        ),
    ],
)
def test_an_unknown_mount_suggests_close_ones(
    location: str, mounted: list[str], message: str
) -> None:
    error = unknown_location(location, iter(mounted))
    assert isinstance(error, StoreLocationNotFound)
    assert str(error) == message
    assert error.location == location


@pytest.mark.parametrize(
    ("key", "writable", "message"),
    [
        ("a", ["dev"], "save needs a key that names its mount, got 'a'; use 'dev/a'"),
        (
            "a@1",
            ["dev", "prod"],
            "save needs a key that names its mount, got 'a@1'; use 'dev/a@1' or 'prod/a@1'",
        ),
        (
            "prd/a",
            ["dev", "prod"],
            "save needs a key that names its mount, got 'prd/a' (no mount is named 'prd'); "
            "did you mean 'prod/a'",
        ),
        (
            "vision/a",
            ["dev"],
            "save needs a key that names its mount, got 'vision/a' (no mount is named 'vision'); "
            "use 'dev/vision/a'",
        ),
        ("a", [], "save needs a mount, and no writable one is mounted"),
    ],
)
def test_an_unqualified_write_gives_the_keys_that_would_work(
    key: str, writable: list[str], message: str
) -> None:
    error = unqualified_write(key, "save", iter(writable))
    assert isinstance(error, StoreKeyFormatError)
    assert str(error) == message


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("modle", ["model", "data"], "model"),
        ("MODEL", ["Model"], "Model"),
        ("straße", ["STRASSE"], "STRASSE"),
        ("x", ["model", "data"], None),
        ("model", [], None),
    ],
)
def test_near_misses(name: str, known: list[str], near: str | None) -> None:
    assert close_name(name, known) == near
