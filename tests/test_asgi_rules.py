"""What HTTP asks for: conditions, ranges, media types and file names, without any server."""

from __future__ import annotations

import re
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.asgi.rules import Answer, Span, disposition, is_media_type, judge, read_range

TAG = '"abc"'
WHOLE = Answer(200, Span(0, 10))
NOT_MODIFIED = Answer(304, Span(0, 0))
FAILED = Answer(412, Span(0, 0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-9", Span(0, 10)),
        ("bytes=2-5", Span(2, 6)),
        ("bytes=2-500", Span(2, 10)),
        ("bytes=9-", Span(9, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-300", Span(0, 10)),
        ("BYTES=1-2", Span(1, 3)),
        ("bytes= 1-2 ", Span(1, 3)),
        ("bytes=,1-2,", Span(1, 3)),
        ("bytes=0-99999999999999999999999999", Span(0, 10)),
        ("bytes=" + "0" * 5000 + "1-2", Span(1, 3)),
        ("bytes=0-" + "9" * 5000, Span(0, 10)),
        ("bytes=-" + "9" * 5000, Span(0, 10)),
    ],
)
def test_a_range_that_can_be_had(text: str, expected: Span) -> None:
    assert read_range(text, 10) == expected


@pytest.mark.parametrize(
    "text", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_that_cannot_be_had_is_empty(text: str) -> None:
    found = read_range(text, 10)
    assert found is not None
    assert found.start == found.end


@pytest.mark.parametrize(
    "text",
    ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1-2-3", "bytes=+1-2",
     "bytes=1.0-2", "items=0-1", "bytes=0-1,3-4", "bytes 0-1", "bytes=٠-١", "bytes=0-1\n5"],
)  # fmt: skip
def test_a_range_to_be_ignored(text: str) -> None:
    assert read_range(text, 10) is None


def test_ranges_of_nothing() -> None:
    assert read_range("bytes=0-", 0) == Span(0, 0)
    assert read_range("bytes=-5", 0) is None


@given(st.text(), st.integers(0, 100))
def test_no_header_makes_a_range_outside_the_object(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        found = read_range(header, size)
        assert found is None or 0 <= found.start <= found.end <= size


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 60))
def test_a_range_is_what_slicing_gives(start: int, last: int, size: int) -> None:
    data = bytes(range(size))
    found = read_range(f"bytes={start}-{last}", size)
    if last < start:
        assert found is None
    else:
        assert found is not None
        assert data[found.start : found.end] == data[start : last + 1]
    suffix = read_range(f"bytes=-{start}", size)
    assert suffix is not None
    assert data[suffix.start : suffix.end] == (data[-start:] if start else b"")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, WHOLE),
        ({"if-none-match": '"abc"'}, NOT_MODIFIED),
        ({"if-none-match": 'W/"abc"'}, NOT_MODIFIED),
        ({"if-none-match": "*"}, NOT_MODIFIED),
        ({"if-none-match": ' "x" , W/"abc" ,, "y"'}, NOT_MODIFIED),
        ({"if-none-match": '"x,y", "abc"'}, NOT_MODIFIED),
        ({"if-none-match": '"x"'}, WHOLE),
        ({"if-none-match": "abc"}, WHOLE),
        ({"if-none-match": '"abc'}, WHOLE),
        ({"if-none-match": '"x" "abc"'}, WHOLE),
        ({"if-none-match": "", "range": "bytes=0-1"}, Answer(206, Span(0, 2))),
        ({"if-none-match": '"abc"', "range": "bytes=0-1"}, NOT_MODIFIED),
        ({"if-match": '"abc"'}, WHOLE),
        ({"if-match": "*"}, WHOLE),
        ({"if-match": '"x", "abc"'}, WHOLE),
        ({"if-match": 'W/"abc"'}, FAILED),
        ({"if-match": '"x"'}, FAILED),
        ({"if-match": "rubbish"}, FAILED),
        ({"if-match": '"x"', "if-none-match": '"abc"'}, FAILED),
        ({"range": "bytes=3-4"}, Answer(206, Span(3, 5))),
        ({"range": "bytes=10-"}, Answer(416, Span(0, 0))),
        ({"range": "bytes=3-4", "if-range": '"abc"'}, Answer(206, Span(3, 5))),
        ({"range": "bytes=3-4", "if-range": 'W/"abc"'}, WHOLE),
        ({"range": "bytes=3-4", "if-range": '"x"'}, WHOLE),
        ({"range": "bytes=10-", "if-range": '"x"'}, WHOLE),
        ({"range": "bytes=3-4", "if-range": "Sat, 29 Oct 1994 19:43:31 GMT"}, WHOLE),
        ({"if-modified-since": "Sat, 29 Oct 2094 19:43:31 GMT"}, WHOLE),
    ],
)
def test_conditions(headers: dict[str, str], expected: Answer) -> None:
    assert judge("GET", headers, TAG, 10) == expected


def test_ranges_are_for_get_and_conditions_for_get_and_head() -> None:
    assert judge("HEAD", {"range": "bytes=3-4"}, TAG, 10) == WHOLE
    assert judge("HEAD", {"if-none-match": TAG}, TAG, 10) == NOT_MODIFIED
    assert judge("POST", {"if-none-match": TAG, "range": "bytes=3-4"}, TAG, 10) == WHOLE


@given(st.text(), st.text(), st.text(), st.integers(0, 50))
def test_any_headers_get_some_answer(match: str, none: str, wanted: str, size: int) -> None:
    answer = judge("GET", {"if-match": match, "if-none-match": none, "range": wanted}, TAG, size)
    assert answer.status in (200, 206, 304, 412, 416)
    assert 0 <= answer.span.start <= answer.span.end <= size


@pytest.mark.parametrize("header", ['"' + 'a"' * 20_000, '"a",' * 20_000 + "x", "," * 60_000 + "x"])
def test_long_headers_are_read_in_no_time(header: str) -> None:
    assert judge("GET", {"if-none-match": header, "range": header}, TAG, 10) == WHOLE


@pytest.mark.parametrize(
    "text",
    ["text/plain", "image/svg+xml", "text/html; charset=utf-8", 'a/b;c="d e;f"', "x/y ; q=1"],
)
def test_media_types(text: str) -> None:
    assert is_media_type(text)


@pytest.mark.parametrize(
    "text",
    ["", "text", "text/", "/plain", "text/plain\r\nX-Evil: 1", "text/plain\n", "text/pläin",
     "a/b;c", 'a/b;c="d\r\n"', 'a/b;c="', "a/b, c/d", "a/" + "b" * 300, None, 5, b"text/plain"],
)  # fmt: skip
def test_what_is_no_media_type(text: object) -> None:
    assert not is_media_type(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ("ü b.txt", "attachment; filename=\"_ b.txt\"; filename*=UTF-8''%C3%BC%20b.txt"),
        ('a"b\\c.txt', "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b_c.txt"),
        ("../../etc/passwd", 'attachment; filename="_.._etc_passwd"'),
        ("a\r\nSet-Cookie: x", 'attachment; filename="a__Set-Cookie: x"'),
        ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("\ud800", 'attachment; filename="_"'),
        (" .. ", 'attachment; filename="download"'),
        ("", 'attachment; filename="download"'),
    ],
)
def test_file_names(name: str, expected: str) -> None:
    assert disposition("attachment", name) == expected


@given(st.text(st.characters()))
def test_any_file_name_is_one_plain_header(name: str) -> None:
    header = disposition("attachment", name)
    assert re.fullmatch(r"[ -~]+", header)
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    read = message.get_filename() or ""
    assert read
    assert not {"/", "\\"} & set(read)
