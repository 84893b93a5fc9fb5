"""Where warnings point."""

from __future__ import annotations

import inspect


def level_outside() -> int:
    """The stack level, for the caller's warning, of the first caller outside this package."""
    package = __name__.partition(".")[0]
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(package):
        level, frame = level + 1, frame.f_back
    return level
