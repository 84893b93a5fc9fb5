"""Settings: which source wins, how paths expand, and what a mistake in each source says."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from asyncstore.errors import RegistrySettingsConflict
from asyncstore.settings import DiscoveryPolicy, MountSettings, Settings

ReadFile = Callable[..., Settings]


@pytest.fixture(autouse=True)
def clean_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, an empty configuration folder, no variable of ours."""
    for variable in list(os.environ):
        if variable.startswith(("ASYNCSTORE_", "MINDTRACE_")):
            monkeypatch.delenv(variable)
    for folder in ("here", "config", "data", "home"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    config, data = tmp_path / "config", tmp_path / "data"
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: config)
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: data)


@pytest.fixture
def read_file(tmp_path: Path) -> ReadFile:
    def read(text: str, **overrides: Any) -> Settings:
        (tmp_path / "given.toml").write_text(text, encoding="utf-8")
        return Settings.from_file(tmp_path / "given.toml", **overrides)

    return read


def at(settings: Settings, path: str) -> object:
    value: Any = settings
    for step in path.split("."):
        value = value[step] if isinstance(value, Mapping) else getattr(value, step)
    return value


# -- defaults ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Settings, Settings.load, Settings.from_file])
def test_built_in_defaults(make: Callable[[], Settings], tmp_path: Path) -> None:
    assert make() == Settings(
        root=tmp_path / "data",
        store_dir=tmp_path / "data" / "store",
        default_location=None,
        mounts={},
        discovery=DiscoveryPolicy(
            mode="unique", probe_timeout=10.0, on_error="raise", trust_cache=False
        ),
    )


def test_the_constructor_reads_neither_environment_nor_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASYNCSTORE_STORE_DIR", "/from/environment")
    Path("asyncstore.toml").write_text("store_dir = '/from/file'", encoding="utf-8")
    assert Settings().store_dir == tmp_path / "data" / "store"


def test_load_reads_no_file() -> None:
    Path("asyncstore.toml").write_text("default_location = 'file'", encoding="utf-8")
    assert Settings.load().default_location is None


def test_settings_are_frozen_values() -> None:
    settings = Settings(mounts={"a": MountSettings(uri="memory://a")}, root=Path("/r"))
    with pytest.raises(FrozenInstanceError):
        settings.root = Path("/other")  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert copy.deepcopy(settings) == settings
    assert hash(settings) == hash(replace(settings))


def test_a_later_change_of_the_mapping_given_changes_nothing() -> None:
    mounts = {"a": MountSettings(uri="memory://a")}
    settings = Settings(mounts=mounts)
    mounts.clear()
    assert list(settings.mounts) == ["a"]


# -- precedence -------------------------------------------------------------------------------

# setting, its environment variable, and what keyword, environment and file say: three distinct
# values that the default differs from too.
TABLE: dict[str, tuple[str, tuple[object, str, str]]] = {
    "root": ("ASYNCSTORE_ROOT", (Path("/kw"), "/env", "root = '/file'")),
    "store_dir": ("ASYNCSTORE_STORE_DIR", (Path("/kw"), "/env", "store_dir = '/file'")),
    "default_location": ("ASYNCSTORE_DEFAULT_LOCATION", ("kw", "env", "default_location = 'file'")),
    "discovery.mode": (
        "ASYNCSTORE_DISCOVERY__MODE",
        ("unique", "first", "discovery.mode = 'unsafe-newest'"),
    ),
    "discovery.probe_timeout": (
        "ASYNCSTORE_DISCOVERY__PROBE_TIMEOUT",
        (1.5, "2.5", "discovery.probe_timeout = 3.5"),
    ),
    "discovery.on_error": (
        "ASYNCSTORE_DISCOVERY__ON_ERROR",
        ("raise", "ignore", "discovery.on_error = 'ignore'"),
    ),
    "discovery.trust_cache": (
        "ASYNCSTORE_DISCOVERY__TRUST_CACHE",
        (False, "true", "discovery.trust_cache = true"),
    ),
    "mounts.a.uri": ("ASYNCSTORE_MOUNTS__A__URI", ("memory://kw", "memory://env", "FILE")),
}
FILE_VALUES: dict[str, object] = {
    "root": Path("/file"),
    "store_dir": Path("/file"),
    "default_location": "file",
    "discovery.mode": "unsafe-newest",
    "discovery.probe_timeout": 3.5,
    "discovery.on_error": "ignore",
    "discovery.trust_cache": True,
    "mounts.a.uri": "memory://file",
}
ENV_VALUES = FILE_VALUES | {
    "root": Path("/env"),
    "store_dir": Path("/env"),
    "default_location": "env",
    "discovery.mode": "first",
    "discovery.probe_timeout": 2.5,
    "mounts.a.uri": "memory://env",
}
SOURCES = [
    set(chosen)
    for size in range(4)
    for chosen in itertools.combinations(["keyword", "environment", "file"], size)
]


def as_keyword(setting: str, value: object) -> dict[str, Any]:
    nested: object = value
    first, *rest = setting.split(".")
    for step in reversed(rest):
        nested = {step: nested}
    return {first: nested}


@pytest.mark.parametrize("given", SOURCES, ids=lambda given: "+".join(sorted(given)) or "nothing")
@pytest.mark.parametrize("setting", TABLE)
def test_precedence(
    setting: str, given: set[str], monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    variable, (keyword, env, toml) = TABLE[setting]
    if "environment" in given:
        monkeypatch.setenv(variable, env)
    toml = "mounts.a = 'memory://file'" if toml == "FILE" else toml
    overrides = as_keyword(setting, keyword) if "keyword" in given else {}
    settings = read_file(toml if "file" in given else "", **overrides)

    if "keyword" in given:
        assert at(settings, setting) == keyword
    elif "environment" in given:
        assert at(settings, setting) == ENV_VALUES[setting]
    elif "file" in given:
        assert at(settings, setting) == FILE_VALUES[setting]
    else:
        assert settings == Settings()
    if "file" not in given:
        assert Settings.load(**overrides) == settings


STORE_DIR_SOURCES = ["keyword", "ASYNCSTORE_STORE_DIR", "MINDTRACE_DIR_PATHS__STORE_DIR", "file"]


@pytest.mark.parametrize(
    "given",
    [c for n in range(1, 5) for c in itertools.combinations(STORE_DIR_SOURCES, n)],
    ids="+".join,
)
def test_the_store_directory_of_mindtrace_is_weaker_than_ours_and_stronger_than_a_file(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    for number, source in enumerate(given):
        if source.isupper():
            monkeypatch.setenv(source, f"/number/{number}")
    toml = f"store_dir = '/number/{given.index('file')}'" if "file" in given else ""
    overrides = {"store_dir": "/number/0"} if "keyword" in given else {}
    # combinations() keeps the order, which is the order of strength: the first always wins.
    assert read_file(toml, **overrides).store_dir == Path("/number/0")


def test_sources_add_up_setting_by_setting(
    monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    monkeypatch.setenv("ASYNCSTORE_DISCOVERY__PROBE_TIMEOUT", "2")
    settings = read_file(
        "[discovery]\nmode = 'first'\nprobe_timeout = 3\n", discovery={"trust_cache": True}
    )
    assert settings.discovery == DiscoveryPolicy(mode="first", probe_timeout=2.0, trust_cache=True)


def test_whole_discovery_settings_replace_every_weaker_field(read_file: ReadFile) -> None:
    settings = read_file("discovery.mode = 'first'", discovery=DiscoveryPolicy(probe_timeout=1))
    assert settings.discovery == DiscoveryPolicy(probe_timeout=1.0)


def test_mounts_given_by_keyword_replace_those_of_weaker_sources(
    monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    monkeypatch.setenv("ASYNCSTORE_MOUNTS__B__URI", "memory://b")
    assert list(read_file("mounts.a = 'memory://a'").mounts) == ["a", "b"]
    assert list(read_file("mounts.a = 'memory://a'", mounts={"c": "memory://c"}).mounts) == ["c"]
    assert read_file("mounts.a = 'memory://a'", mounts={}).mounts == {}


@pytest.mark.parametrize("setting", ["root", "store_dir", "default_location", "mounts"])
def test_a_keyword_of_none_counts_as_not_given(setting: str, read_file: ReadFile) -> None:
    toml = "root = '/r'\nstore_dir = '/s'\ndefault_location = 'a'\nmounts.a = 'memory://a'"
    assert read_file(toml, **{setting: None}) == read_file(toml)


@pytest.mark.parametrize("variable", ["ASYNCSTORE_STORE_DIR", "ASYNCSTORE_MOUNTS__A__URI"])
def test_an_empty_variable_counts_as_not_set(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "")
    assert Settings.load() == Settings()


@pytest.mark.parametrize(
    "variable",
    ["ASYNCSTORE_STORE_DIRR", "ASYNCSTORE_MOUNTS__A__URL", "ASYNCSTORE_MOUNTS__URI", "STORE_DIR"],
)
def test_variables_that_are_no_settings_are_ignored(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "anything")
    assert Settings.load() == Settings()


# -- where the file is looked for --------------------------------------------------------------


def test_the_current_folder_comes_before_the_configuration_folder(tmp_path: Path) -> None:
    (tmp_path / "config" / "asyncstore.toml").write_text("default_location = 'user'")
    assert Settings.from_file().default_location == "user"
    (tmp_path / "here" / "asyncstore.toml").write_text("default_location = 'here'")
    assert Settings.from_file().default_location == "here"


def test_a_given_file_is_the_only_one_read(read_file: ReadFile) -> None:
    Path("asyncstore.toml").write_text("default_location = 'here'")
    assert read_file("store_dir = '/s'") == Settings(store_dir=Path("/s"))


def test_a_byte_order_mark_is_skipped() -> None:
    Path("asyncstore.toml").write_text("default_location = 'a'", encoding="utf-8-sig")
    assert Settings.from_file().default_location == "a"


def test_a_given_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RegistrySettingsConflict, match=r"no settings file .*nowhere\.toml"):
        Settings.from_file("nowhere.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    Path("asyncstore.toml").mkdir()
    assert Settings.from_file() == Settings()
    with pytest.raises(RegistrySettingsConflict, match="cannot read the settings file"):
        Settings.from_file(tmp_path)


@pytest.mark.parametrize("content", [b"root = ", b"\xff\xfe", b"root = '/a'\nroot = '/b'"])
def test_a_file_that_is_not_toml_is_named(content: bytes) -> None:
    Path("asyncstore.toml").write_bytes(content)
    with pytest.raises(RegistrySettingsConflict, match=r"asyncstore\.toml is not a TOML file"):
        Settings.from_file()


@pytest.mark.parametrize("path", ["", " ", "a\0b", 5])
def test_a_path_that_cannot_be_one(path: Any) -> None:
    with pytest.raises(RegistrySettingsConflict, match="path must be a path"):
        Settings.from_file(path)


# -- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["constructor", "keyword", "environment", "file"])
def test_home_and_root_are_expanded_in_every_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    if source == "constructor":
        settings = Settings(
            root=Path("~/asyncstore"),
            store_dir=Path("${root}/objects"),
            mounts={"a": MountSettings(uri="${root}/a"), "b": MountSettings(uri="~/b")},
        )
    elif source == "keyword":
        settings = Settings.load(
            root="~/asyncstore",
            store_dir="${root}/objects",
            mounts={"a": Path("${root}/a"), "b": "~/b"},
        )
    elif source == "environment":
        monkeypatch.setenv("ASYNCSTORE_ROOT", "~/asyncstore")
        monkeypatch.setenv("ASYNCSTORE_STORE_DIR", "${root}/objects")
        monkeypatch.setenv("ASYNCSTORE_MOUNTS__A__URI", "${root}/a")
        monkeypatch.setenv("ASYNCSTORE_MOUNTS__B__URI", "~/b")
        settings = Settings.load()
    else:
        settings = read_file(
            "root = '~/asyncstore'\nstore_dir = '${root}/objects'\n"
            "mounts.a = '${root}/a'\nmounts.b = '~/b'"
        )
    root = tmp_path / "home" / "asyncstore"
    assert settings.root == root
    assert settings.store_dir == root / "objects"
    assert settings.mounts["a"].uri == str(root / "a")
    assert settings.mounts["b"].uri == str(tmp_path / "home" / "b")


def test_the_store_directory_follows_the_root_of_a_stronger_source(
    monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    monkeypatch.setenv("ASYNCSTORE_ROOT", "/env")
    assert read_file("root = '/file'\nstore_dir = '${root}/s'").store_dir == Path("/env/s")
    assert read_file("root = '/file'").store_dir == Path("/env/store")


def test_relative_paths_in_a_file_start_at_its_folder(tmp_path: Path, read_file: ReadFile) -> None:
    settings = read_file("root = 'r'\nstore_dir = 's'\n[mounts]\na = 'm'\nb = 'memory://m'")
    assert settings.root == tmp_path / "r"
    assert settings.store_dir == tmp_path / "s"
    assert settings.mounts["a"].uri == str(tmp_path / "m")
    assert settings.mounts["b"].uri == "memory://m"


def test_relative_paths_elsewhere_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE_ROOT", "r")
    assert Settings.load(store_dir="s").store_dir == Path("s")
    assert Settings.load().store_dir == Path("r/store")


def test_the_root_is_expanded_inside_a_uri() -> None:
    settings = Settings.load(root="/r", mounts={"a": "file://${root}/a"})
    assert settings.mounts["a"].uri == "file:///r/a"


# -- mounts -----------------------------------------------------------------------------------


def test_mounts_keep_their_order_and_fields(read_file: ReadFile) -> None:
    settings = read_file(
        "[mounts.z]\nuri = 'memory://z'\nread_only = true\ndiscoverable = false\noptional = true\n"
        "description = 'the last'\n[mounts]\na = 'memory://a'\n"
    )
    assert list(settings.mounts.items()) == [
        (
            "z",
            MountSettings(
                uri="memory://z",
                read_only=True,
                discoverable=False,
                optional=True,
                description="the last",
            ),
        ),
        ("a", MountSettings(uri="memory://a")),
    ]


@pytest.mark.parametrize("written", ["prod-eu", "PROD_EU", "prod_eu"])
def test_a_variable_finds_the_mount_of_the_file_in_capitals_too(
    written: str, monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    monkeypatch.setenv(f"ASYNCSTORE_MOUNTS__{written}__READ_ONLY", "yes")
    settings = read_file("mounts.prod-eu = 'memory://p'")
    assert settings.mounts == {"prod-eu": MountSettings(uri="memory://p", read_only=True)}


def test_a_variable_makes_a_new_mount_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE_MOUNTS__MY__MODELS__URI", "memory://m")
    monkeypatch.setenv("ASYNCSTORE_MOUNTS__ARCHIVE__URI", "memory://a")
    assert list(Settings.load().mounts) == ["archive", "my__models"]


def test_a_variable_that_could_mean_two_mounts_is_refused(
    monkeypatch: pytest.MonkeyPatch, read_file: ReadFile
) -> None:
    monkeypatch.setenv("ASYNCSTORE_MOUNTS__A_B__URI", "memory://x")
    with pytest.raises(RegistrySettingsConflict, match="any of the mounts 'a-b', 'a_B'"):
        read_file("mounts.a-b = 'memory://1'\nmounts.a_B = 'memory://2'")


def test_a_repr_shows_no_credentials() -> None:
    mount = MountSettings(uri="s3://key:secret@bucket/p?secret_key=secret", description="secret")
    assert "secret" not in repr(Settings(mounts={"a": mount}))
    assert "s3://***@bucket/p" in repr(mount)


# -- mistakes ---------------------------------------------------------------------------------

WORDS = [("true", True), ("1", True), ("YES", True), ("on", True)]
WORDS += [("false", False), ("0", False), ("No", False), (" off ", False)]


@pytest.mark.parametrize(("word", "value"), WORDS)
def test_words_for_true_and_false(word: str, value: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE_DISCOVERY__TRUST_CACHE", word)
    assert Settings.load().discovery.trust_cache is value


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("store_dirr = '/s'", "no setting 'store_dirr'; did you mean 'store_dir'"),
        ("colour = 1", "expected one of root, store_dir, default_location, discovery, mounts"),
        ("discovery.mod = 'first'", "discovery: there is no setting 'mod'; did you mean 'mode'"),
        ("mounts.a.url = 'x'", "mounts.a: there is no setting 'url'; did you mean 'uri'"),
        ("store_dir = 5", "store_dir must be a path, not 5"),
        ("store_dir = ''", "store_dir must be a path, not ''"),
        ("store_dir = 'a\\u0000b'", None),
        ('store_dir = "a\\u0000b"', r"store_dir must be a path, not 'a\x00b'"),
        ("store_dir = '${rot}/s'", "store_dir has ${rot}; ${root} is expanded here"),
        ("root = '${root}/s'", "root has ${root}; nothing is expanded here"),
        ("store_dir = '~nobody-of-that-name/s'", "below a home folder that is known"),
        ("default_location = true", "default_location must be text that is not empty, not True"),
        ("default_location = ' '", "default_location must be text that is not empty"),
        ("discovery = 'first'", "discovery must be a table of settings, not 'first'"),
        ("discovery.mode = 'Unique'", "discovery.mode must be one of 'unique', 'first', 'unsafe-"),
        ("discovery.mode = 'uniqe'", "not 'uniqe'; did you mean 'unique'"),
        ("discovery.mode = ['unique']", "not list"),
        ("discovery.on_error = 'rise'", "did you mean 'raise'"),
        ("discovery.probe_timeout = 0", "must be a number of seconds above 0, not 0"),
        ("discovery.probe_timeout = -1.5", "a number of seconds above 0, not -1.5"),
        ("discovery.probe_timeout = inf", "a number of seconds above 0, not inf"),
        ("discovery.probe_timeout = nan", "a number of seconds above 0, not nan"),
        ("discovery.probe_timeout = '5'", "a number of seconds above 0, not '5'"),
        ("discovery.probe_timeout = true", "a number of seconds above 0, not True"),
        ("discovery.trust_cache = 'true'", "trust_cache must be true or false, not 'true'"),
        ("discovery.trust_cache = 1", "trust_cache must be true or false, not 1"),
        ("mounts = 'a'", "mounts must be a table of settings, not 'a'"),
        ("mounts.a = 5", "mounts.a must be a table of settings, not 5"),
        ("[mounts.a]", "mounts.a: the mount 'a' needs a uri"),
        ("mounts.a.read_only = true", "mounts.a: the mount 'a' needs a uri"),
        ("mounts.a.uri = 5", "mounts.a.uri must be a path, not 5"),
        ("mounts.a.uri = '${rot}/a'", "mounts.a.uri has ${rot}"),
        ("mounts.a = {uri = 'memory://a', optional = 'no'}", "mounts.a.optional must be true or"),
        ("mounts.a = {uri = 'memory://a', description = 3}", "mounts.a.description must be text"),
        ("mounts.'a/b' = 'memory://a'", "mounts: 'a/b' cannot name a mount"),
        ("mounts.'a@b' = 'memory://a'", "mounts: 'a@b' cannot name a mount"),
        ("mounts.'' = 'memory://a'", "mounts: '' cannot name a mount"),
        (
            "default_location = 'prd'\nmounts.prod = 'memory://p'\nmounts.b = 'memory://b'",
            "default_location must be one of the mounts ('prod', 'b'), not 'prd'; "
            "did you mean 'prod'",
        ),
    ],
)
def test_a_mistake_in_a_file(toml: str, says: str | None, read_file: ReadFile) -> None:
    if says is None:  # a literal string does not expand the escape: a fine, if odd, path
        assert read_file(toml).store_dir.name == "a\\u0000b"
        return
    with pytest.raises(RegistrySettingsConflict) as caught:
        read_file(toml)
    assert says in str(caught.value)
    assert "given.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ASYNCSTORE_STORE_DIR", " ", "must be a path"),
        ("ASYNCSTORE_STORE_DIR", "${HOME}/s", "has ${HOME}; ${root} is expanded here"),
        ("MINDTRACE_DIR_PATHS__STORE_DIR", "${HOME}/s", "has ${HOME}"),
        ("ASYNCSTORE_ROOT", "${root}", "has ${root}; nothing is expanded here"),
        ("ASYNCSTORE_DEFAULT_LOCATION", " ", "must be text that is not empty"),
        ("ASYNCSTORE_DISCOVERY__MODE", "frist", "not 'frist'; did you mean 'first'"),
        ("ASYNCSTORE_DISCOVERY__PROBE_TIMEOUT", "soon", "a number of seconds above 0, not 'soon'"),
        ("ASYNCSTORE_DISCOVERY__PROBE_TIMEOUT", "0", "a number of seconds above 0, not '0'"),
        ("ASYNCSTORE_DISCOVERY__PROBE_TIMEOUT", "nan", "a number of seconds above 0, not 'nan'"),
        ("ASYNCSTORE_DISCOVERY__ON_ERROR", "ignored", "did you mean 'ignore'"),
        ("ASYNCSTORE_DISCOVERY__TRUST_CACHE", "maybe", "must be true or false, not 'maybe'"),
        ("ASYNCSTORE_MOUNTS__A__READ_ONLY", "true", "the mount 'a' needs a uri"),
        ("ASYNCSTORE_MOUNTS__A__READ_ONLY", "2", "must be true or false, not '2'"),
        ("ASYNCSTORE_MOUNTS__A@B__URI", "memory://a", "'a@b' cannot name a mount"),
    ],
)
def test_a_mistake_in_the_environment(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(RegistrySettingsConflict) as caught:
        Settings.load()
    assert says in str(caught.value)
    assert variable in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"stor_dir": "/s"}, "there is no setting 'stor_dir'; did you mean 'store_dir'"),
        ({"store_dir": 5}, "store_dir must be a path, not 5"),
        ({"store_dir": b"/s"}, "store_dir must be a path, not bytes"),
        ({"default_location": 5}, "default_location must be text that is not empty, not 5"),
        ({"discovery": "first"}, "discovery must be a table of settings"),
        ({"discovery": {"Mode": "first"}}, "did you mean 'mode'"),
        ({"discovery": {"probe_timeout": 10**400}}, "a number of seconds above 0"),
        ({"discovery": {5: "first"}}, "there is no setting 5"),
        ({"mounts": ["a"]}, "mounts must be a table of settings, not list"),
        ({"mounts": {5: "memory://a"}}, "a mount's name must be a str"),
        ({"mounts": {"a": object()}}, "mounts.a must be a table of settings, not object"),
        ({"mounts": {"a": "memory://a"}, "default_location": "b"}, "one of the mounts ('a')"),
    ],
)
@pytest.mark.parametrize("load", [Settings.load, Settings.from_file])
def test_a_mistake_in_a_keyword(
    load: Callable[..., Settings], overrides: dict[str, Any], says: str
) -> None:
    with pytest.raises(RegistrySettingsConflict) as caught:
        load(**overrides)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Settings(root=5), "Settings: root must be a path, not 5"),
        (lambda: Settings(discovery={"mode": "first"}), "discovery must be a DiscoveryPolicy"),
        (lambda: Settings(mounts={"a": "memory://a"}), "mounts.a must be a MountSettings"),
        (lambda: Settings(mounts={"a/b": MountSettings(uri="x")}), "'a/b' cannot name a mount"),
        (
            lambda: Settings(mounts={"a": MountSettings(uri="x")}, default_location="b"),
            "one of the mounts ('a'), not 'b'",
        ),
        (lambda: MountSettings(uri=""), "MountSettings: uri must be a path, not ''"),
        (lambda: DiscoveryPolicy(mode="all"), "DiscoveryPolicy: mode must be one of"),
        (lambda: DiscoveryPolicy(probe_timeout=0), "probe_timeout must be a number of seconds"),
        (lambda: DiscoveryPolicy(trust_cache=None), "trust_cache must be true or false"),
    ],
)
def test_a_mistake_in_a_constructor(make: Callable[[], object], says: str) -> None:
    with pytest.raises(RegistrySettingsConflict) as caught:
        make()
    assert says in str(caught.value)


def test_a_message_does_not_repeat_a_long_value() -> None:
    with pytest.raises(RegistrySettingsConflict) as caught:
        Settings.load(discovery={"mode": "x" * 1000})
    assert len(str(caught.value)) < 200
