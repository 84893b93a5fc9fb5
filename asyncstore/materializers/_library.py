"""What the materializers for other people's libraries have in common.

A library is imported only where an object of its types is saved, when it is there already, or where
an object that was stored by its materializer is decoded. The name of the module is written in the
code of the materializer and never comes from what is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from asyncstore.errors import MaterializationError


def loaded(module: str, *names: str) -> tuple[type, ...]:
    """Types of a library, or none if nobody has imported it: then it has no objects either."""
    found = sys.modules.get(module)
    members = [] if found is None else [vars(found).get(name) for name in names]
    return tuple(member for member in members if isinstance(member, type))


def is_loaded(*modules: str) -> bool:
    """Whether all of these have been imported, so that importing them takes no time."""
    return all(module in sys.modules for module in modules)


def library(module: str, *, extra: str) -> Any:
    """Import a module that the caller names in its own code.

    Raises MaterializationError that says what to install where it is missing.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise MaterializationError(
                f"this object needs the package {package}, which is not installed: "
                f'pip install "asyncstore[{extra}]"'
            ) from error
        raise MaterializationError(
            f"this object needs the package {package}, which is installed but cannot be imported "
            f'({said(error)}): pip install --force-reinstall "asyncstore[{extra}]"'
        ) from error


def said(error: object) -> str:
    """What an error says, in ASCII and short: hostile bytes may have had a say in it."""
    return ascii(str(error))[1:-1][:300]


@contextmanager
def decoding(what: str) -> Generator[None]:
    """Turn whatever a library raises over bytes that do not fit into MaterializationError."""
    try:
        yield
    except MaterializationError:
        raise
    except MemoryError as error:  # of an allocation that the bytes asked for, more often than not
        raise MaterializationError(
            f"the stored {what} asks for more memory than there is: {said(error)}"
        ) from error
    except Exception as error:
        raise MaterializationError(
            f"these bytes are no stored {what}: {type(error).__name__}: {said(error)}"
        ) from error


@contextmanager
def encoding(what: str) -> Generator[None]:
    """Turn whatever a library raises over an object that it cannot write into our error."""
    try:
        yield
    except (MaterializationError, MemoryError):
        raise
    except Exception as error:
        raise MaterializationError(
            f"cannot save this {what}: {type(error).__name__}: {said(error)}"
        ) from error
