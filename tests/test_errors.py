"""The tree of errors, their messages and their facts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from asyncstore import errors
from asyncstore.errors import (
    AsyncStoreError,
    BackendCapabilityError,
    BackendError,
    BackendTimeout,
    CommitUnknown,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    RegistryVersionConflict,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
    StoreKeyFormatError,
    StoreLocationNotFound,
    StoreReadOnlyError,
    UnsupportedFormatError,
)

BASES = {
    AsyncStoreError: (Exception,),
    StoreLocationNotFound: (AsyncStoreError, LookupError),
    StoreKeyFormatError: (AsyncStoreError, ValueError),
    StoreAmbiguousObjectError: (AsyncStoreError,),
    StoreDiscoveryIncomplete: (AsyncStoreError,),
    StoreReadOnlyError: (AsyncStoreError, PermissionError),
    RegistryObjectNotFound: (AsyncStoreError, KeyError),
    RegistryVersionConflict: (AsyncStoreError, FileExistsError),
    RegistrySettingsConflict: (AsyncStoreError, ValueError),
    CommitUnknown: (AsyncStoreError,),
    IntegrityError: (AsyncStoreError, ValueError),
    MaterializationError: (AsyncStoreError, TypeError),
    UnsupportedFormatError: (AsyncStoreError,),
    BackendError: (AsyncStoreError, OSError),
    BackendTimeout: (BackendError, TimeoutError),
    BackendCapabilityError: (BackendError,),
}

every_error = pytest.mark.parametrize("kind", BASES)


async def _landed() -> bool:
    return True


DOWN = {"prod": BackendTimeout("no answer"), "dev": BackendError("503")}

# Each error with all of its facts, and what these facts are.
FULL: list[tuple[AsyncStoreError, dict[str, object]]] = [
    (StoreLocationNotFound("m", location="prod"), {"location": "prod"}),
    (
        StoreAmbiguousObjectError(
            "m",
            name="a",
            version="1",
            locations=("dev", "prod"),
            suggested_keys=("dev/a",),
            errors=DOWN,
        ),
        {"name": "a", "version": "1", "locations": ["dev", "prod"], "suggested_keys": ["dev/a"]},
    ),
    (
        StoreDiscoveryIncomplete("m", name="a", hits=("dev",), errors=DOWN),
        {"name": "a", "hits": ["dev"]},
    ),
    (StoreReadOnlyError("m", location="prod"), {"location": "prod"}),
    (
        RegistryObjectNotFound("m", name="a", version="1", locations=("dev", "prod")),
        {"name": "a", "version": "1", "locations": ["dev", "prod"]},
    ),
    (RegistryVersionConflict("m", name="a", version="1"), {"name": "a", "version": "1"}),
    (
        CommitUnknown("m", name="a", version="1", commit="c0ffee", resolver=_landed),
        {"name": "a", "version": "1", "commit": "c0ffee"},
    ),
]

COPIES: list[Callable[[AsyncStoreError], AsyncStoreError]] = [
    *(lambda error, p=p: pickle.loads(pickle.dumps(error, p)) for p in range(6)),
    copy.copy,
    copy.deepcopy,
]


def test_the_tree_is_that_of_the_contract() -> None:
    defined = {
        kind for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }  # fmt: skip
    assert defined == set(BASES)
    assert {kind: kind.__bases__ for kind in defined} == BASES


def test_missing_so_write_it_does_not_catch_doubt() -> None:
    """``except LookupError`` and its like must not take doubt for absence. Lesson L5."""
    for kind in (StoreAmbiguousObjectError, StoreDiscoveryIncomplete, CommitUnknown, BackendError,
                 StoreKeyFormatError, UnsupportedFormatError, IntegrityError):  # fmt: skip
        assert not issubclass(kind, LookupError | FileNotFoundError)


@every_error
def test_an_error_prints_its_message_plainly(kind: type[AsyncStoreError]) -> None:
    message = "no 'a' in \"prod\"; did you mean 'b'?\nä"
    assert str(kind(message)) == message
    assert kind(message).args == (message,)
    assert f"{kind(message)}" == message
    assert str(kind()) == ""


@every_error
@pytest.mark.parametrize("copied", COPIES)
def test_every_error_pickles(
    kind: type[AsyncStoreError], copied: Callable[[AsyncStoreError], AsyncStoreError]
) -> None:
    error = kind("what went wrong")
    error.add_note("while testing")
    again = copied(error)
    assert type(again) is kind
    assert str(again) == "what went wrong"
    assert again.args == ("what went wrong",)
    assert again.__notes__ == ["while testing"]
    assert set(vars(again)) == set(vars(error))


@pytest.mark.parametrize(("error", "facts"), FULL)
def test_facts_are_attributes(error: AsyncStoreError, facts: dict[str, object]) -> None:
    assert {name: getattr(error, name) for name in facts} == facts
    assert str(error) == "m"


@pytest.mark.parametrize(("error", "facts"), FULL)
@pytest.mark.parametrize("copied", COPIES)
def test_facts_survive_pickling(
    error: AsyncStoreError,
    facts: dict[str, object],
    copied: Callable[[AsyncStoreError], AsyncStoreError],
) -> None:
    again = copied(error)
    assert type(again) is type(error)
    assert {name: getattr(again, name) for name in facts} == facts
    assert str(again) == "m"


@pytest.mark.parametrize("kind", [StoreAmbiguousObjectError, StoreDiscoveryIncomplete])
def test_the_errors_of_mounts_are_a_dict_of_its_own(
    kind: type[StoreAmbiguousObjectError] | type[StoreDiscoveryIncomplete],
) -> None:
    given = dict(DOWN)
    error = kind("m", errors=given)
    assert error.errors == DOWN
    given.clear()
    assert error.errors == DOWN
    assert kind("m").errors == {}
    again = pickle.loads(pickle.dumps(error))
    assert {name: (type(one), str(one)) for name, one in again.errors.items()} == {
        "prod": (BackendTimeout, "no answer"),
        "dev": (BackendError, "503"),
    }


def test_lists_of_facts_are_not_those_of_the_caller() -> None:
    places = ["dev"]
    missing = RegistryObjectNotFound("m", locations=places)
    ambiguous = StoreAmbiguousObjectError("m", locations=places, suggested_keys=places)
    incomplete = StoreDiscoveryIncomplete("m", hits=places)
    places.append("prod")
    assert missing.locations == ambiguous.locations == ["dev"]
    assert ambiguous.suggested_keys == incomplete.hits == ["dev"]


@pytest.mark.asyncio
async def test_a_commit_of_unknown_fate_asks_its_resolver() -> None:
    answers = iter([None, False, True])

    async def resolver() -> bool | None:
        return next(answers)

    error = CommitUnknown("m", commit="c0ffee", resolver=resolver)
    assert [await error.resolve() for _ in range(3)] == [None, False, True]


@pytest.mark.asyncio
async def test_an_unpickled_commit_of_unknown_fate_leaves_the_answer_open() -> None:
    error = CommitUnknown("m", commit="c0ffee", resolver=_landed)
    assert await error.resolve() is True
    again = pickle.loads(pickle.dumps(error))
    assert await again.resolve() is None
    assert await error.resolve() is True
    assert await CommitUnknown("m").resolve() is None


@pytest.mark.asyncio
async def test_a_resolver_that_cannot_read_says_so() -> None:
    async def resolver() -> bool | None:
        raise BackendTimeout("no answer")

    with pytest.raises(BackendTimeout, match="no answer"):
        await CommitUnknown("m", resolver=resolver).resolve()


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (StoreLocationNotFound("m"), LookupError),
        (StoreKeyFormatError("m"), ValueError),
        (StoreReadOnlyError("m"), PermissionError),
        (RegistryObjectNotFound("m"), KeyError),
        (RegistryVersionConflict("m"), FileExistsError),
        (RegistrySettingsConflict("m"), ValueError),
        (IntegrityError("m"), ValueError),
        (MaterializationError("m"), TypeError),
        (BackendError("m"), OSError),
        (BackendTimeout("m"), TimeoutError),
        (BackendCapabilityError("m"), BackendError),
    ],
)
def test_errors_are_caught_as_what_they_are_in_python(
    error: AsyncStoreError, caught_as: type[Exception]
) -> None:
    with pytest.raises(caught_as) as caught:
        raise error
    assert caught.value is error
    assert str(caught.value) == "m"
