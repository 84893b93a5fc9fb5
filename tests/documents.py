"""Finding the code blocks of a Markdown page, so that tests can run what readers will run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its code, and the line it begins on."""

    page: str
    line: int
    language: str
    code: str


def blocks(page: str, language: str) -> list[Block]:
    """The blocks of one language on a page of the project."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2])
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]
