"""What a request for an object asks for, by RFC 9110. Pure: headers in, a decision out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[\t !#-\[\]-~]|\\[\t !-~])*"'
_MEDIA_TYPE: Final = re.compile(
    rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*"
)
_MOST_MEDIA_TYPE: Final = 255

# The list of entity tags as RFC 9110 writes it; empty elements are to be put up with.
_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS: Final = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t]*(?:{_TAG})?)*[ \t]*")
_EACH_TAG: Final = re.compile(_TAG)

_RANGE: Final = re.compile(r"bytes=[ \t,]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t,]*", re.IGNORECASE)
_MOST_DIGITS: Final = 19

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_QUOTES: Final = re.compile(r"[^ !#$&-\[\]-~]")
"""Neither what ends or escapes in a quoted string, nor "%", which some browsers decode there."""


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from ``start`` up to, not including, ``end``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: a status, and for 200 and 206 which bytes."""

    status: int
    span: Span


def judge(method: str, headers: Mapping[str, str], tag: str, size: int) -> Answer:
    """Decide on a request for an object that exists, has this strong entity tag and ``size`` bytes.

    ``headers`` are those of the request, by lower-case name. The order is that of RFC 9110, 13.2.2:
    If-Match (412), If-None-Match (304), then Range under If-Range (206, 416). Conditions on dates
    are left aside, as the standard has it for what gives no date of modification.
    """
    whole = Answer(200, Span(0, size))
    nothing = Span(0, 0)
    if method not in ("GET", "HEAD"):
        return whole
    match = headers.get("if-match")
    if match is not None and not _names(match, tag, weakly=False):
        return Answer(412, nothing)
    none_match = headers.get("if-none-match")
    if none_match is not None and _names(none_match, tag, weakly=True):
        return Answer(304, nothing)
    wanted = headers.get("range")
    if method != "GET" or wanted is None or headers.get("if-range", tag).strip() != tag:
        return whole
    found = read_range(wanted, size)
    if found is None:
        return whole
    return Answer(206, found) if found.end > found.start else Answer(416, nothing)


def _names(condition: str, tag: str, *, weakly: bool) -> bool:
    """Whether a condition names this strong tag. One that is malformed names nothing."""
    if condition.strip() == "*":
        return True
    if _TAGS.fullmatch(condition) is None:
        return False
    tags = _EACH_TAG.findall(condition)
    return tag in (tags if not weakly else [each.removeprefix("W/") for each in tags])


def read_range(text: str, size: int) -> Span | None:
    """The bytes that a Range header asks for; empty where they cannot be had (416).

    None where the header is to be ignored: another unit, a malformed one, or several ranges,
    which RFC 9110 lets a server answer with the whole. So nobody multiplies what is sent by asking
    for overlapping ranges.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(_number(suffix), size)
        if not size and _number(suffix):
            return None  # satisfiable by the standard, but 206 cannot say "no bytes"
        return Span(size - length, size)
    start, end = _number(first), _number(last) + 1 if last else size
    if end <= start and last:
        return None  # backwards is malformed
    return Span(start, min(end, size)) if start < size else Span(0, 0)


def _number(digits: str) -> int:
    """A number of any length: beyond the size of any object it does not matter by how much."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def is_media_type(text: object) -> bool:
    """Whether this may stand in a Content-Type header: well-formed, printable ASCII, one line."""
    if not isinstance(text, str) or len(text) > _MOST_MEDIA_TYPE:
        return False
    return _MEDIA_TYPE.fullmatch(text) is not None


def disposition(kind: str, filename: str | None) -> str:
    """A Content-Disposition header for any file name (RFC 6266): ASCII, one line, no path."""
    if filename is None:
        return kind
    name = _UNPRINTABLE.sub("_", re.sub(r"[/\\]", "_", filename)).strip(" .") or "download"
    plain = _NOT_IN_QUOTES.sub("_", name)
    if plain == name:
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
