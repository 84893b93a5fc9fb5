"""Settings as somebody gave them: each is checked, and an error says where it came from."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from asyncstore.errors import RegistrySettingsConflict
from asyncstore.keys import close_name

ROOT_MARK: Final = "${root}"
_TRUE_WORDS: Final = ("true", "1", "yes", "on")
_FALSE_WORDS: Final = ("false", "0", "no", "off")


@dataclass(frozen=True)
class Given:
    """A value as somebody gave it, with what an error message calls it."""

    value: object
    label: str
    base: Path | None = None  # relative paths start here; None leaves them relative
    is_text: bool = False  # from an environment variable, where "1" may be a bool or a number


def wrong(given: Given, expected: str, choices: Collection[str] = ()) -> RegistrySettingsConflict:
    """The error for a value that is not what it must be, with a near miss among ``choices``."""
    plain = isinstance(given.value, str | int | float)
    found = f"{given.value!r:.80}" if plain else type(given.value).__name__
    near = close_name(given.value, choices) if isinstance(given.value, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    return RegistrySettingsConflict(f"{given.label} must be {expected}, not {found}{hint}")


def unknown(source: str, key: object, known: Collection[str]) -> RegistrySettingsConflict:
    """The error for a setting that does not exist."""
    near = close_name(str(key), known)
    hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(known)}"
    return RegistrySettingsConflict(f"{source}: there is no setting {key!r}; {hint}")


def parse_text(given: Given) -> str:
    """Text that is not empty."""
    if not isinstance(given.value, str) or not given.value.strip():
        raise wrong(given, "text that is not empty")
    return given.value


def parse_optional_text(given: Given) -> str | None:
    """Text, or None."""
    return None if given.value is None else parse_text(given)


def parse_bool(given: Given) -> bool:
    """True or false; from the environment also as a word."""
    if isinstance(given.value, bool):
        return given.value
    word = str(given.value).strip().lower()
    if not given.is_text or word not in _TRUE_WORDS + _FALSE_WORDS:
        raise wrong(given, "true or false")
    return word in _TRUE_WORDS


def parse_seconds(given: Given) -> float:
    """A finite number of seconds above zero."""
    expected = "a number of seconds above 0"
    value = given.value
    if isinstance(value, bool) or not isinstance(value, str if given.is_text else int | float):
        raise wrong(given, expected)
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        raise wrong(given, expected) from None
    if not (math.isfinite(seconds) and seconds > 0):
        raise wrong(given, expected)
    return seconds


def parse_one_of(*choices: str) -> Callable[[Given], str]:
    """A parser that takes just these words."""

    def parse(given: Given) -> str:
        if given.value not in choices:
            raise wrong(given, f"one of {', '.join(map(repr, choices))}", choices)
        return str(given.value)

    return parse


def parse_path(given: Given, known: Collection[str] = (ROOT_MARK,)) -> Path:
    """A path, with ``~`` expanded; of ``${…}`` marks only the ``known`` ones may be in it."""
    text = given.value
    if isinstance(text, os.PathLike):
        text = os.fspath(cast("os.PathLike[str]", text))
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise wrong(given, "a path")
    for mark in re.findall(r"\$\{.*?\}", text):
        if mark not in known:
            usable = ", ".join(known) or "nothing"
            raise RegistrySettingsConflict(f"{given.label} has {mark}; {usable} is expanded here")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # "~nobody"
        raise wrong(given, "a path below a home folder that is known") from error
    # A path that starts with ${root} is absolute or not as the root is, which is settled later.
    return given.base / path if given.base and not text.startswith(ROOT_MARK) else path


def parse_uri(given: Given) -> str:
    """A URI, or a path."""
    value = given.value
    if isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        return value
    return str(parse_path(given))
