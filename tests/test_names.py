"""Names become keys, one to one, whatever a backend does to case and Unicode. Lessons N1 to N3."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import StoreKeyFormatError
from asyncstore.names import (
    MAX_ESCAPED,
    MAX_NAME_BYTES,
    check_name,
    escape_name,
    is_long,
    unescape_name,
)

thorough = settings(max_examples=10_000, deadline=None)

# What a random text hardly ever holds, and what once made two names collide or left the root.
PIECES = [
    *"abzABZ019:/!=,()%@_.- +*?[]{}<>|\"'\\#&;~^$`\t\n\r\0\x01\x1f\x7f",
    *("..", "../", "!!", "!2e", "!a", "=", "(c3a9)", "%3A", "%2F", "%253A", "//", "/./"),
    *("con", "CON", "nul", "aux.", "prn.txt", "com1", "lpt9", "com0.x"),
    *("é", "e\u0301", "É", "ß", "SS", "ss", "ſ", "İ", "i\u0307", "ı", "K", "k", "Å", "A\u030a"),
    *("ﬁ", "fi", "Σ", "ς", "σ", "模型", "\u200b", "\u202e", "\ufeff", "\u0301", "\U0001f600"),
    *("\x80", "\xa0", "\u3000", "\uffff", "\U0010ffff", "ж" * 40, "A" * 70, "a" * 230, ".x" * 60),
]

DEVICE = re.compile(r"(?s)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def _valid(name: str) -> bool:
    """What the contract calls a name, said a second time."""
    return (
        name.strip() == name != ""
        and not set(name) & {"@", "\0"}
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def _from_pieces(data: bytes) -> str:
    return "".join(PIECES[byte % len(PIECES)] for byte in data)


def _repaired(text: str) -> str:
    """The text without what no name may hold."""
    return text.translate({ord("@"): "a", 0: "b"})[:250].strip() or "c"


# Names are built from bytes: one draw for a whole name is many times cheaper than one for a piece.
texts = st.binary(min_size=1, max_size=12).map(_from_pieces)
names = texts.map(_repaired)


def _variants(name: str) -> list[str]:
    """The names that a careless escaping would confuse with this one."""
    changed = [name.lower(), name.upper(), name.swapcase(), name.casefold(), escape_name(name)]
    changed += [unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    changed += [name.replace(":", "_"), name.replace(":", "%3A"), name.replace("/", ",")]
    changed += [name + ".", "." + name, name + "/" + name, name[:-1], name[1:], name + "!!"]
    return changed


def _as_seen_by_blind_backends(segment: str) -> set[str]:
    """The segment as backends show it that fold case or normalise Unicode."""
    forms = {unicodedata.normalize(form, segment) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    return {segment, segment.casefold(), segment.lower(), *forms}


@thorough
@given(names)
def test_the_escaped_form_is_safe_and_leads_back_to_the_name(name: str) -> None:
    segment = escape_name(name)
    assert check_name(name) == name
    assert re.fullmatch(r"[a-z0-9_.,=!()-]+", segment)
    assert len(segment) <= MAX_ESCAPED
    assert segment[0] not in ".-_"
    assert segment[-1] != "."
    assert not DEVICE.fullmatch(segment)
    assert _as_seen_by_blind_backends(segment) == {segment}
    spelt = _spelt_out(name)
    assert is_long(segment) == (len(spelt) > MAX_ESCAPED)
    assert is_long(segment) or segment == spelt
    assert unescape_name(segment) == (None if is_long(segment) else name)


@thorough
@given(st.binary(min_size=2, max_size=20))
def test_two_names_never_share_a_key(data: bytes) -> None:
    one, other = _from_pieces(data[::2]), _from_pieces(data[1::2])
    different = {name for name in (one, other, *_variants(one)) if _valid(name)}
    keys = {escape_name(name) for name in different}
    assert len(keys) == len(different)
    assert len({seen for key in keys for seen in _as_seen_by_blind_backends(key)}) == len(keys)


ALPHABET = "abcxyz019_.-,=!()" + "!!!(((" + "2e3afc" + "AZ%é/ "


@thorough
@given(st.binary(max_size=16))
def test_only_the_one_spelling_of_a_name_is_decoded(data: bytes) -> None:
    segment = "".join(ALPHABET[byte % len(ALPHABET)] for byte in data)
    name = unescape_name(segment)
    if name is not None:
        assert escape_name(name) == segment
        assert _valid(name)


EDITS = ["", *"aA0.!(=", "!2e", "(c3a9)", "!!", "!41", "()"]


@thorough
@given(st.binary(min_size=3, max_size=12))
def test_a_key_with_one_spot_changed_is_that_of_another_name_or_foreign(data: bytes) -> None:
    name = _repaired(_from_pieces(data[2:]))
    segment = escape_name(name)
    at = data[0] % len(segment)
    changed = segment[:at] + EDITS[data[1] % len(EDITS)] + segment[at + 1 :]
    found = unescape_name(changed)
    if found is not None:
        assert escape_name(found) == changed
        assert (found == name) == (changed == segment)


@thorough
@given(st.binary(min_size=2, max_size=10))
def test_long_names_keep_a_readable_beginning_and_end_in_a_digest(data: bytes) -> None:
    part = _repaired(_from_pieces(data[1:]))[: data[0] % 100]
    name = f"x{part}" + "模Q" * 24
    segment, spelt = escape_name(name), _spelt_out(name)
    kept, mark, digest = segment.rpartition("!!")
    assert len(spelt) > MAX_ESCAPED
    assert is_long(segment)
    assert mark == "!!"
    assert spelt.startswith(kept)
    assert len(kept) <= 180
    assert digest == hashlib.sha256(name.encode()).hexdigest()[:48]
    assert escape_name(name + "q") != segment


def _spelt_out(name: str) -> str:
    """The rules of the format, applied one after the other to single characters."""
    out = []
    for run in re.findall(r"[^\x00-\x7f]+|[\x00-\x7f]", name):
        if ord(run[0]) >= 0x80:
            out.append("(" + run.encode().hex() + ")")
        elif re.fullmatch("[a-z0-9_.-]", run):
            out.append(run)
        elif re.fullmatch("[A-Z]", run):
            out.append("!" + run.lower())
        else:
            out.append({":": "=", "/": ","}.get(run, f"!{ord(run):02x}"))
    if name[0] in ".-_" or DEVICE.fullmatch(name):
        out[0] = f"!{ord(name[0]):02x}"
    if name[-1] == ".":
        out[-1] = "!2e"
    return "".join(out)


@given(texts)
def test_a_text_is_a_name_or_refused(text: str) -> None:
    if _valid(text):
        assert check_name(text) == text
    else:
        with pytest.raises(StoreKeyFormatError, match="cannot name an object"):
            check_name(text)


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("config", "config"),
        ("project:model:v1", "project=model=v1"),
        ("project_model", "project_model"),
        ("project%3Amodel", "project!253!amodel"),
        ("vision/Detector", "vision,!detector"),
        ("a b", "a!20b"),
        ("a=b,c!(d)", "a!3db!2cc!21!28d!29"),
        ("模型", "(e6a8a1e59e8b)"),
        ("a模型z", "a(e6a8a1e59e8b)z"),
        ("e\u0301", "e(cc81)"),
        ("\u00e9", "(c3a9)"),
        ("a\nb", "a!0ab"),
        ("a\x7fb", "a!7fb"),
        ("*?[x]", "!2a!3f!5bx!5d"),
        # Nothing that a file system or a tool could take for more than a name.
        (".", "!2e"),
        ("..", "!2e!2e"),
        ("...", "!2e.!2e"),
        ("../../x", "!2e.,..,x"),
        ("/etc/passwd", ",etc,passwd"),
        ("C:\\x", "!c=!5cx"),
        (".hidden", "!2ehidden"),
        ("-rf", "!2drf"),
        ("_", "!5f"),
        ("a.", "a!2e"),
        ("con", "!63on"),
        ("nul.txt", "!6eul.txt"),
        ("com1", "!63om1"),
        ("lpt9.tar.gz", "!6cpt9.tar.gz"),
        ("com", "com"),
        ("console", "console"),
        ("CON", "!c!o!n"),
        ("con/x", "con,x"),
        # The longest that is spelt out, and the first that is not.
        ("a" * 240, "a" * 240),
        ("A" * 120, "!a" * 120),
        ("ж" * 59, "(" + "d0b6" * 59 + ")"),
        ("ж" * 60, "!!" + hashlib.sha256(("ж" * 60).encode()).hexdigest()[:48]),
        (
            "A" * 1024,
            "!a" * 90 + "!!" + hashlib.sha256(b"A" * 1024).hexdigest()[:48],
        ),
    ],
)
def test_keys_of_names(name: str, segment: str) -> None:
    assert escape_name(check_name(name)) == segment
    assert unescape_name(segment) == (None if is_long(segment) else name)


@pytest.mark.parametrize(
    "segment",
    [
        *("", ".", "..", ".a", "-a", "_", "a.", "con", "nul.txt", "A", "é", "a b", "a/b", "a%20b"),
        *("!", "a!", "!!", "!2", "!2E", "!41", "!61", "!80", "!3a", "!2f", "!40", "!00", "!20a"),
        *("(", "()", "(c3)", "(C3A9)", "(c3a9", "c3a9)", "(61)", "(c3a9)(c3a9)", "(eda080)"),
        *("(c3a9 )", "(c3a9\n)", "a\n", "a" * 241, "a" * 1025, "a!20", "!0aa"),
    ],
)
def test_foreign_segments_name_nothing(segment: str) -> None:
    assert unescape_name(segment) is None


@pytest.mark.parametrize(
    ("segment", "long"),
    [
        ("!!" + "0" * 48, True),
        ("a" * 180 + "!!" + "0" * 48, True),
        ("a" * 181 + "!!" + "0" * 48, False),
        ("a" * 180 + "!!" + "0" * 47, False),
        ("a" * 180 + "!!" + "A" * 48, False),
        ("é!!" + "0" * 48, False),
        ("a" * 240, False),
        ("", False),
    ],
)
def test_the_form_of_long_names(segment: str, long: bool) -> None:
    assert is_long(segment) is long


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' cannot name an object: it is empty"),
        ("a\0b", r"'a\x00b' cannot name an object: it holds a NUL character"),
        ("a\ud800", r"'a\ud800' cannot name an object: it holds a lone surrogate"),
        (" a", "' a' cannot name an object: it has white space at its ends; did you mean 'a'?"),
        ("a\n", r"'a\n' cannot name an object: it has white space at its ends; did you mean 'a'?"),
        ("\u3000a", "it has white space at its ends; did you mean 'a'?"),
        (" ", "it has white space at its ends"),
        ("a@1", "'a@1' cannot name an object: '@' stands between a name and its version"),
        ("a" * 1025, "it has 1,025 bytes of UTF-8, and 1,024 is the most"),
        ("模" * 342, "it has 1,026 bytes of UTF-8, and 1,024 is the most"),
        (None, "a name must be a str, got NoneType (None)"),
        (b"a", "a name must be a str, got bytes (b'a')"),
        (7, "a name must be a str, got int (7)"),
    ],
)
def test_refused_names_say_why(name: object, message: str) -> None:
    with pytest.raises(StoreKeyFormatError, match=re.escape(message)):
        check_name(name)


def test_the_message_for_a_huge_name_is_short() -> None:
    with pytest.raises(StoreKeyFormatError) as caught:
        check_name("x" * 1_000_000)
    assert len(str(caught.value)) < 250
    with pytest.raises(StoreKeyFormatError) as caught:
        check_name(["x"] * 1_000_000)
    assert len(str(caught.value)) < 250


def test_the_longest_name_is_1024_bytes() -> None:
    for name in ("a" * 1024, "模" * 341 + "a"):
        assert check_name(name) == name
        assert is_long(escape_name(name))
