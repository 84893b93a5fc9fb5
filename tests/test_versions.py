"""Versions, and the keys under which the newest comes first."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import StoreKeyFormatError
from asyncstore.versions import (
    MAX_COMPONENTS,
    MAX_DIGITS,
    MAX_TEXT,
    Version,
    first_version,
    fit_version,
    format_version,
    next_version,
    read_version,
    same_version,
    version_key,
    version_of_key,
)

thorough = settings(max_examples=10_000, deadline=None)

LARGEST = 10**MAX_DIGITS - 1
COUNTS = range(1, MAX_COMPONENTS + 1)
# Both sides of every change of length, where an order by text goes wrong.
EDGES = [0, 1, 2, 5, 8, LARGEST - 1, LARGEST]
EDGES += [10**digits + near for digits in range(1, MAX_DIGITS) for near in (-1, 0, 1)]


def _version(data: bytes) -> Version:
    """Seven numbers from seven bytes, each of them an edge or one of any length."""
    any_number = int.from_bytes(hashlib.sha256(data).digest()[:7])
    return tuple(
        EDGES[byte % len(EDGES)] if byte < 192 else any_number >> (byte - 192) for byte in data
    )


def _pair(data: bytes) -> tuple[Version, Version]:
    """Two versions, of which the first numbers are often the same."""
    one, other = _version(data[1:8]), _version(data[8:15])
    shared = data[0] % 8
    return one, one[:shared] + other[shared:]


# One draw for all numbers of two versions: every example tests all counts of components.
pairs = st.binary(min_size=15, max_size=15).map(_pair)


@thorough
@given(pairs)
def test_keys_sort_newest_first_and_lead_back_to_their_version(
    pair: tuple[Version, Version],
) -> None:
    for count in COUNTS:
        one, other = pair[0][:count], pair[1][:count]
        key, other_key = version_key(one), version_key(other)
        assert (key.encode() < other_key.encode()) == (one > other)
        assert (key == other_key) == (one == other)
        assert version_of_key(key, count) == one
        assert version_of_key(key, count % MAX_COMPONENTS + 1) is None
        assert re.fullmatch(r"[i-z0-9]+_[0-9.]+", key)
        assert key.endswith("_" + format_version(one))
        text = format_version(one)
        if len(text) <= MAX_TEXT:
            assert read_version(text) == read_version("v" + text) == one
        else:
            with pytest.raises(StoreKeyFormatError, match=f"{MAX_TEXT} characters in all"):
                read_version(text)


ALPHABET = "zzyxi012989_.._v-az"


@thorough
@given(st.binary(min_size=2, max_size=16))
def test_foreign_keys_are_no_version(data: bytes) -> None:
    """Whatever stands in a listing is the one key of a version, or none at all."""
    version = (*(byte % 11 for byte in data[2:4]), data[0])
    at = data[0] % len(version_key(version))
    key = version_key(version)
    changed = key[:at] + ALPHABET[data[1] % len(ALPHABET)] + key[at + 1 :]
    random = "".join(ALPHABET[byte % len(ALPHABET)] for byte in data)
    for segment in (changed, random, random + "_" + format_version(version)):
        for count in COUNTS:
            found = version_of_key(segment, count)
            assert found is None or (version_key(found), len(found)) == (segment, count)


@thorough
@given(pairs)
def test_the_next_version_follows_and_nothing_lies_between(pair: tuple[Version, Version]) -> None:
    for count in COUNTS:
        newest = pair[0][:count]
        if newest[-1] == LARGEST:
            with pytest.raises(StoreKeyFormatError, match="explicit higher version"):
                next_version(newest, count)
            continue
        following = next_version(newest, count)
        assert following == (*newest[:-1], newest[-1] + 1)
        assert version_key(following) < version_key(newest)
        assert not newest < pair[1][:count] < following


def test_keys_around_every_change_of_length_are_in_order() -> None:
    numbers = sorted(set(EDGES))
    for count in COUNTS:
        versions = [(0,) * (count - 1) + (number,) for number in numbers]
        versions += [(number,) + (0,) * (count - 1) for number in numbers[2:] if count > 1]
        keys = [version_key(version) for version in versions]
        assert all(one > other for one, other in pairwise(keys))


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ((1, 0, 0), "z8z9z9_1.0.0"),
        ((1, 0, 9), "z8z9z0_1.0.9"),
        ((1, 0, 10), "z8z9y89_1.0.10"),
        ((2, 0, 0), "z7z9z9_2.0.0"),
        ((0,), "z9_0"),
        ((LARGEST,), "i" + "0" * 18 + "_" + "9" * 18),
        ((1, 2, 3, 4, 5, 6, 7), "z8z7z6z5z4z3z2_1.2.3.4.5.6.7"),
    ],
)
def test_keys_of_versions(version: Version, key: str) -> None:
    assert version_key(version) == key
    assert version_of_key(key, len(version)) == version


@pytest.mark.parametrize(
    "segment",
    [
        *("", "_", "1.0.0", "_1.0.0", "z8z9z9", "z8z9z9_", "z8z9z9_1.0.1", "z8z9z9_v1.0.0"),
        *("z8z9z9_01.0.0", "z8z9z9_1.0", "Z8Z9Z9_1.0.0", "z8z9z9_1.0.0 ", "z8z9z9_1.0.0\n"),
        *("z8z9z9_1.0.0_", " z8z9z9_1.0.0", "z8z9z9_1.0.0.0", "y08z9z9_01.0.0", "g/_"),
        "z8z9z9_١.0.0",
        "h" + "0" * 19 + "z9z9_" + "9" * 19 + ".0.0",
        "z_" + "1" * 100_000,
    ],
)  # fmt: skip
def test_keys_of_no_version(segment: str) -> None:
    assert version_of_key(segment, 3) is None


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", (1,)),
        ("v1", (1,)),
        ("V1", (1,)),
        ("1.0", (1, 0)),
        ("v1.2.3", (1, 2, 3)),
        ("0.0.0", (0, 0, 0)),
        ("01.002", (1, 2)),
        ("1.2.3.4.5.6.7", (1, 2, 3, 4, 5, 6, 7)),
        ("9" * 18, (LARGEST,)),
    ],
)
def test_accepted_spellings(text: str, numbers: Version) -> None:
    assert read_version(text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, f"{text!r} is no version: expected numbers joined by dots, such as '1.0.0', or")
          for text in ("", "v", "vv1", "1.", ".1", "1..2", "1.0.0-rc1", "1,0", "-1", "+1", "1e3",
                       "0x1", " 1", "1 ", "1\n", "1_0", "latest ", "Latest", "newest", "١", "²")),
        ("1.2.3.4.5.6.7.8", "at most 7 numbers of at most 18 digits each"),
        ("1" * 19, "at most 7 numbers of at most 18 digits each"),
        ("0" * 19, "at most 7 numbers of at most 18 digits each"),
        (1, "a version must be a str such as '1.0.0', got int (1)"),
        (1.0, "a version must be a str such as '1.0.0', got float (1.0)"),
        ((1, 0), "a version must be a str such as '1.0.0', got tuple ((1, 0))"),
        (None, "a version must be a str such as '1.0.0', got NoneType (None)"),
        (b"1", "a version must be a str such as '1.0.0', got bytes (b'1')"),
    ],
)  # fmt: skip
def test_refused_spellings(text: object, message: str) -> None:
    with pytest.raises(StoreKeyFormatError, match=re.escape(message)):
        read_version(text)


def test_the_message_for_a_huge_version_is_short() -> None:
    for text in ("1" * 1_000_000, "x" * 1_000_000, "1." * 500_000 + "1"):
        with pytest.raises(StoreKeyFormatError) as caught:
            read_version(text)
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("numbers", "count", "fitted"),
    [
        ((1,), 3, (1, 0, 0)),
        ((1, 2), 3, (1, 2, 0)),
        ((1, 2, 3), 3, (1, 2, 3)),
        ((1, 2, 3, 4), 3, None),
        ((1, 0, 0, 0), 3, None),
        ((5,), 1, (5,)),
        ((5,), 7, (5, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_padding(numbers: Version, count: int, fitted: Version | None) -> None:
    assert fit_version(numbers, count) == fitted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1", "1.0.0", True),
        ("v1", "1.0", True),
        ("1.0.0.0", "1", True),
        ("01", "1", True),
        ("1.0.1", "1", False),
        ("1.10", "1.1", False),
        ("latest", "latest", True),
        ("latest", "1", False),
        ("1", "latest", False),
    ],
)
def test_same_version(one: str, other: str, same: bool) -> None:
    assert same_version(one, other) is same
    assert same_version(other, one) is same


def test_the_first_version_is_one() -> None:
    assert [format_version(first_version(count)) for count in (1, 2, 3)] == ["1", "1.0", "1.0.0"]
    for count in COUNTS:
        assert next_version(None, count) == first_version(count)
        assert len(first_version(count)) == count


def test_incrementing_counts_past_nine() -> None:
    assert next_version((1, 0, 9), 3) == (1, 0, 10)
    assert next_version((2, 5), 2) == (2, 6)
    assert next_version((999,), 1) == (1000,)
    assert next_version((LARGEST - 1,), 1) == (LARGEST,)
