"""Whatever code the documents show is run, and does what they say."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from asyncstore import ProgressEvent, Settings
from asyncstore.materializers import default_materializers
from asyncstore.progress import Operation
from asyncstore.sync import Registry
from tests.documents import ROOT, Block, blocks
from tests.servers.process import Server


def run(code: str, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a program as a reader would, in a process of its own, warnings being errors."""
    script = folder / "program.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PYTHONPATH": str(ROOT),
            "ASYNCSTORE_STORE_DIR": str(folder / "configured"),
            **(environment or {}),
        },
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_the_readme_example_runs(tmp_path: Path) -> None:
    [example] = blocks("README.md", "python")
    printed = run(example.code, tmp_path).splitlines()
    assert printed[:2] == ["{'acc': 0.95}", "{'acc': 0.95}"]
    assert "'a/shared' or 'b/shared'" in printed[2]
    assert printed[3] == "2"
    assert example.code.count("\n") <= 26


def test_the_readme_example_runs_again_in_the_same_folder(tmp_path: Path) -> None:
    [example] = blocks("README.md", "python")
    assert (
        run(example.code, tmp_path).splitlines()[3] == run(example.code, tmp_path).splitlines()[3]
    )


def test_the_readme_commands_name_sessions_that_exist() -> None:
    sessions = (ROOT / "noxfile.py").read_text()
    commands = [block.code for block in blocks("README.md", "sh")]
    named = [re.search(r"nox -s (\w+)", command) for command in commands]
    assert [match[1] for match in named if match] == ["demo", "tests"]
    assert all(f"def {match[1]}(" in sessions for match in named if match)


def test_the_readme_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/\w+\.py)`", (ROOT / "README.md").read_text())
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_the_page_on_s3_runs(tmp_path: Path, counting_server: Server) -> None:
    [example] = blocks("docs/s3.md", "python")
    printed = run(example.code, tmp_path, environment={
        "S3_ENDPOINT": counting_server.url,
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "reader",
    }).splitlines()  # fmt: skip
    assert printed == ["safe: True", "1.0.0", "{'acc': 0.92}", "['model:resnet']"]


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole page: its blocks build on each other."""
    return tmp_path_factory.mktemp("quickstart")


@pytest.mark.parametrize(
    "block", blocks("docs/quickstart.md", "python"), ids=lambda block: f"line {block.line}"
)
def test_the_quickstart_runs(block: Block, reader_folder: Path) -> None:
    printed = run(block.code, reader_folder)
    promised = re.findall(r"print\(.*# (\d+\.\d+\.\d+)$", block.code, re.MULTILINE)
    assert all(version in printed for version in promised)


def test_the_configuration_in_the_quickstart_is_read(tmp_path: Path) -> None:
    [block] = blocks("docs/quickstart.md", "toml")
    path = tmp_path / "asyncstore.toml"
    path.write_text(block.code)
    settings = Settings.from_file(path)
    assert list(settings.mounts) == ["lab", "prod"]
    assert settings.mounts["prod"].read_only
    assert settings.discovery.probe_timeout == 2.5


@pytest.fixture(scope="module")
def objects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the page on objects, too."""
    return tmp_path_factory.mktemp("objects")


@pytest.mark.parametrize(
    "block", blocks("docs/objects.md", "python"), ids=lambda block: f"line {block.line}"
)
def test_the_page_on_objects_runs_and_prints_what_it_says(
    block: Block, objects_folder: Path
) -> None:
    printed = run(block.code, objects_folder).splitlines()
    promised = re.findall(r"^ *print\([^\n]*\)  # (.+)$", block.code, re.MULTILINE)
    assert [line for line in promised if line not in printed] == []


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table that follows a heading of a page."""
    text = (ROOT / page).read_text().partition(f"\n## {heading}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[0].splitlines()[2:]]


def test_the_table_of_materializers_has_all_of_them_and_their_extras() -> None:
    table = rows("docs/objects.md", "What is kept")
    assert sorted(row[0].strip("`") for row in table) == sorted(
        one.id for one in default_materializers()
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {row[2].strip("`") for row in table} - {""}
    assert extras == project["optional-dependencies"].keys() - {"all", "asgi", "progress"}


def test_the_table_of_progress_has_all_fields_and_operations() -> None:
    table = rows("docs/objects.md", "Progress")
    fields = [field.name for field in dataclasses.fields(ProgressEvent)]
    assert [row[0].strip("`") for row in table] == fields
    assert re.findall(r'`"(\w+)"`', table[0][1]) == list(get_args(Operation))


def test_the_format_page_reads_what_asyncstore_writes(tmp_path: Path) -> None:
    """The reader on the page imports nothing of ours, and its output is what was saved."""
    with Registry(tmp_path / "registry") as registry:
        registry.save("Project:model/ü", {"acc": 0.92, "t": (1, 2)})
        registry.save("big", bytes(range(256)) * 100_000)
        registry.save("gone", 1)
        registry.delete("gone")
    [reader] = blocks("docs/format.md", "python")
    assert "asyncstore" not in reader.code
    printed = run(reader.code, tmp_path, str(tmp_path / "registry"))
    assert "Project:model/ü 1.0.0 json" in printed
    assert '"$tuple"' in printed
    assert "data.bin: 25600000 bytes" in printed
    assert "gone" not in printed


def test_the_reader_on_the_format_page_refuses_damage(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry") as registry:
        registry.save("value", {"acc": 0.92})
    [record] = (tmp_path / "registry" / "m" / "value").iterdir()
    data = bytearray(record.read_bytes())
    data[-2] ^= 1
    record.write_bytes(data)
    [reader] = blocks("docs/format.md", "python")
    with pytest.raises(AssertionError, match="is damaged"):
        run(reader.code, tmp_path, str(tmp_path / "registry"))


def test_the_header_on_the_format_page_has_the_keys_of_a_real_one(tmp_path: Path) -> None:
    [example] = blocks("docs/format.md", "json")
    with Registry(tmp_path / "registry") as registry:
        registry.save("value", {"acc": 0.92})
    [record] = (tmp_path / "registry" / "m" / "value").iterdir()
    header = record.read_bytes()[180:].splitlines()[0]
    assert json.loads(header).keys() == json.loads(example.code).keys()


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert listed
    names = re.findall(r'"([A-Za-z0-9_-]+)', listed[1])
    reasons = (ROOT / "docs/dependencies.md").read_text()
    assert names
    assert [name for name in names if name not in reasons] == []
