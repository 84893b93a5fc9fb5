"""Everything that is run on the project: ``python -m nox -s demo``, ``tests``, ``lint`` and so on.

Needs nothing but Python 3.11 or newer and pip; each session makes its own environment.
"""

from __future__ import annotations

import os
import shutil
import sys

import nox

# The first nox that starts an interpreter before believing in it: version managers such as pyenv
# put a python3.12 on the PATH that only says "command not found".
nox.needs_version = ">=2026.8.10"

OLDEST = (3, 11)
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

# An interpreter that is not installed is skipped and said to be, on a CI machine too. It cannot
# happen that all of them are and the run looks like a success: the one that runs nox is among them.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"
if sys.version_info < OLDEST:
    raise SystemExit(f"asyncstore needs Python 3.11 or newer, and nox runs on {RUNNING}")
if RUNNING not in PYTHONS:
    PYTHONS.append(RUNNING)

# virtualenv comes with nox and, unlike venv, works where a Linux distribution left ensurepip out.
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "lint", "types"]


def install(session: nox.Session, *groups: str) -> None:
    """Install asyncstore as users get it, as a wheel, and the dependency groups named."""
    pyproject = nox.project.load_toml("pyproject.toml")
    session.install(".", *nox.project.dependency_groups(pyproject, *groups))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job on directories: discovery, ambiguity, versions."""
    install(session)
    session.run("asyncstore", "demo")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every interpreter that is present; arguments after -- go to pytest."""
    install(session, "test")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    # What measures time runs by itself; the rest in two processes.
    session.run("pytest", "-n", "2", "--dist", "worksteal", "-m", "not alone")
    session.run("pytest", "-m", "alone")


CEPH_PROGRAMS = ["ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin"]
CEPH_PACKAGES = ["ceph-mon", "ceph-osd", "radosgw", "ceph-common"]


@nox.session
def ceph(session: nox.Session) -> None:
    """Run the tests against a real Ceph cluster, started for them; arguments after -- to pytest."""
    missing = [program for program in CEPH_PROGRAMS if shutil.which(program) is None]
    if missing:
        install_ceph(session, missing)
    install(session, "test")
    session.run("pytest", "tests/ceph", *session.posargs, env={"ASYNCSTORE_CEPH": "1"})


def install_ceph(session: nox.Session, missing: list[str]) -> None:
    """Install the programs of Ceph where that may be done without asking, or say what to do."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        session.error(
            f"not installed: {', '.join(missing)}. On Debian or Ubuntu: apt-get install "
            f"--no-install-recommends {' '.join(CEPH_PACKAGES)}; as root this session does it."
        )
    apt = ["apt-get", "-q", "-y"]
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run(*apt, "update", env=env, external=True)
    session.run(*apt, "install", "--no-install-recommends", *CEPH_PACKAGES, env=env, external=True)


@nox.session
def hostile(session: nox.Session) -> None:
    """Read 100,000 hostile records and archives, or as many as the number after --."""
    install(session, "test")
    env = {"ASYNCSTORE_HOSTILE": session.posargs[0] if session.posargs else "100000"}
    session.run("pytest", "tests/test_hostile.py", "-rP", "-o", "faulthandler_timeout=0", env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the rules and the format of every file, without changing one."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with two checkers, both at their strictest."""
    install(session, "types")
    # The version is pinned; without this pyright asks the network for a newer one on each run.
    env = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    session.run("mypy")
    session.run("pyright", env=env)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code that the documentation shows."""
    install(session, "test")
    session.run("pytest", "tests/test_docs.py", "tests/test_web_docs.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks; arguments after -- go to them."""
    install(session)
    session.run("python", "-m", "benchmarks", *session.posargs)
