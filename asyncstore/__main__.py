"""The command line: ``python -m asyncstore demo``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and answer the exit status. A wrong one ends with the usage, status 2."""
    parser = argparse.ArgumentParser(prog="asyncstore", description="The asyncstore command line.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="show discovery, ambiguity and versions on two directories")
    parser.parse_args(argv)

    # Imported here, so that a usage error costs nothing.
    from asyncstore.demo import main as demo

    demo()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
