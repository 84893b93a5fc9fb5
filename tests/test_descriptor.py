"""The registry descriptor: what everyone who opens a registry must agree on."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.descriptor import (
    DEFAULT_INLINE,
    MAX_DESCRIPTOR,
    Descriptor,
    Wanted,
    read_descriptor,
    write_descriptor,
)
from asyncstore.errors import IntegrityError, RegistrySettingsConflict, UnsupportedFormatError
from asyncstore.record import MAX_INLINE

GIVEN = Descriptor(id="7", version_objects=False, mutable=True, version_digits=5, inline_max=1)


def sealed(tree: dict[str, Any]) -> bytes:
    """The bytes of any descriptor tree, with the digest that makes it look genuine."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return json.dumps({**tree, "digest": hashlib.sha256(text.encode()).hexdigest()}).encode()


def tree_of(descriptor: Descriptor) -> dict[str, Any]:
    """The JSON tree of a descriptor without its digest."""
    tree: dict[str, Any] = json.loads(write_descriptor(descriptor))
    del tree["digest"]
    return tree


@given(
    st.builds(
        Descriptor,
        id=st.text(st.characters(exclude_categories=["Cs"])),
        version_objects=st.booleans(),
        mutable=st.booleans(),
        version_digits=st.integers(1, 7),
        reuse_deleted=st.booleans(),
        inline_max=st.integers(0, MAX_INLINE),
    )
)
def test_a_descriptor_comes_back(descriptor: Descriptor) -> None:
    data = write_descriptor(descriptor)
    assert read_descriptor(data, "here") == descriptor
    assert read_descriptor(sealed(tree_of(descriptor)), "here") == descriptor
    assert data.endswith(b"}\n")
    assert data.isascii()
    assert data == write_descriptor(descriptor)


def test_a_new_registry_has_the_defaults_of_the_contract() -> None:
    made = Wanted().new()
    assert uuid.UUID(made.id).version == 4
    assert made == Descriptor(
        asv=1,
        id=made.id,
        version_objects=True,
        mutable=False,
        version_digits=3,
        reuse_deleted=False,
        inline_max=DEFAULT_INLINE,
        min_reader=1,
        min_writer=1,
        features=[],
    )
    assert DEFAULT_INLINE == 64 * 1024
    assert Wanted().new().id != made.id


@pytest.mark.parametrize(
    ("versioned", "mutable"), list(product([None, True, False], [None, True, False]))
)
def test_deleted_numbers_are_written_anew_only_where_that_is_safe(
    versioned: bool | None, mutable: bool | None
) -> None:
    made = Wanted(version_objects=versioned, mutable=mutable).new()
    assert made.reuse_deleted == (versioned is False or mutable is True)
    assert made.version_objects == (versioned is not False)
    assert made.mutable == (mutable is True)


def test_a_new_registry_has_what_was_asked_for() -> None:
    made = Wanted(version_objects=False, mutable=True, version_digits=7, inline_max=0).new()
    assert (made.version_objects, made.mutable, made.version_digits, made.inline_max) == (
        False, True, 7, 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(version_objects=False),
        Wanted(mutable=True),
        Wanted(version_digits=5),
        Wanted(inline_max=1),
        Wanted(version_objects=False, mutable=True, version_digits=5, inline_max=1),
    ],
)
def test_what_does_not_contradict_is_accepted(wanted: Wanted) -> None:
    assert wanted.check(GIVEN, "here") == GIVEN


@pytest.mark.parametrize(
    ("wanted", "stored", "asked"),
    [
        (Wanted(version_objects=True), "version_objects=False", "version_objects=True"),
        (Wanted(mutable=False), "mutable=True", "mutable=False"),
        (Wanted(version_digits=3), "version_digits=5", "version_digits=3"),
        (Wanted(inline_max=0), "inline_max=1", "inline_max=0"),
        (Wanted(mutable=True, inline_max=2), "inline_max=1", "inline_max=2"),
    ],
)
def test_what_contradicts_the_registry_is_a_conflict(
    wanted: Wanted, stored: str, asked: str
) -> None:
    message = f"the registry at here was created with {stored}, and {asked} was asked for"
    with pytest.raises(RegistrySettingsConflict, match=re.escape(message)):
        wanted.check(GIVEN, "here")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"version_objects": 1}, "version_objects=1: expected True or False"),
        ({"version_objects": "no"}, "version_objects='no': expected True or False"),
        ({"mutable": 0}, "mutable=0: expected True or False"),
        ({"version_digits": 0}, "version_digits=0: expected a whole number from 1 to 7"),
        ({"version_digits": 8}, "version_digits=8: expected a whole number from 1 to 7"),
        ({"version_digits": 3.0}, "version_digits=3.0: expected a whole number"),
        ({"version_digits": "3"}, "version_digits='3': expected a whole number"),
        ({"version_digits": True}, "version_digits=True: expected a whole number"),
        ({"inline_max": -1}, "inline_max=-1: expected a whole number from 0 to 1,048,576"),
        ({"inline_max": MAX_INLINE + 1}, "inline_max=1048577: expected a whole number from 0 to"),
    ],
)
def test_a_setting_without_a_valid_value_is_refused(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(RegistrySettingsConflict, match=re.escape(expected)):
        Wanted(**settings)


@pytest.mark.parametrize("value", [1, 7])
def test_the_limits_of_settings_are_inclusive(value: int) -> None:
    assert Wanted(version_digits=value, inline_max=MAX_INLINE).version_digits == value


def test_registries_read_alike_where_names_and_versions_mean_the_same() -> None:
    other = Descriptor(id="8", version_objects=False, version_digits=5, mutable=False, inline_max=9)
    assert GIVEN.reads_like(other)
    assert not GIVEN.reads_like(Descriptor(id="7", version_objects=True, version_digits=5))
    assert not GIVEN.reads_like(Descriptor(id="7", version_objects=False, version_digits=4))


def test_every_flipped_bit_is_refused() -> None:
    """But for those in the white space after the object, which change nothing."""
    data = write_descriptor(GIVEN)
    for bit in range(8 * (len(data) - 1)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError, match=r"^the registry descriptor of here is corrupt: "):
            read_descriptor(bytes(damaged), "here")


def test_a_descriptor_cut_short_is_refused() -> None:
    data = write_descriptor(GIVEN)
    for size in range(len(data) - 1):
        with pytest.raises(IntegrityError, match=r"^the registry descriptor of here is corrupt: "):
            read_descriptor(data[:size], "here")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"null", b"[]", b'"digest"', b"{}", b"1", b"\xff", b"[" * 100_000, b'{"digest":1}'),
        sealed({}),
        sealed({"id": 7}),
        sealed({"id": "7", "mutable": 1}),
        sealed({"id": "7", "version_objects": None}),
        sealed({"id": "7", "version_digits": 0}),
        sealed({"id": "7", "version_digits": 8}),
        sealed({"id": "7", "version_digits": True}),
        sealed({"id": "7", "version_digits": 10**30}),
        sealed({"id": "7", "inline_max": -1}),
        sealed({"id": "7", "inline_max": MAX_INLINE + 1}),
        sealed({"id": "7", "features": "x"}),
        sealed({"id": "7", "min_reader": "1"}),
        sealed({"id": "7" * MAX_DESCRIPTOR}),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_descriptor_is_corrupt(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^the registry descriptor of here is corrupt: "):
        read_descriptor(data, "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"asv": 2},
        {"min_reader": 2},
        {"min_writer": 2},
        {"features": ["sharded"]},
        # Everything else may have changed beyond recognition.
        {"min_reader": 2, "version_digits": 9, "inline_max": "64 KiB", "id": None},
    ],
)
def test_a_newer_registry_asks_for_a_newer_asyncstore(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFormatError, match="the registry at here is of a newer format"):
        read_descriptor(sealed(tree_of(GIVEN) | changes), "here")


def test_unknown_settings_are_ignored() -> None:
    assert read_descriptor(sealed(tree_of(GIVEN) | {"later": [1]}), "here") == GIVEN


def test_the_digest_is_over_the_other_keys() -> None:
    """As ``docs/format.md`` says: of the same object without it, in canonical JSON."""
    tree = json.loads(write_descriptor(GIVEN))
    digest = tree.pop("digest")
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert digest == hashlib.sha256(text.encode()).hexdigest()
