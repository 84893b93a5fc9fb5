"""Where asyncstore keeps things and how it asks for them, read from one of four places.

Strongest first: keyword arguments, environment variables, ``asyncstore.toml``, built-in defaults.

::

    # asyncstore.toml                          # the same as environment variables
    root = "~/models"                          # ASYNCSTORE_ROOT
    store_dir = "${root}/store"                # ASYNCSTORE_STORE_DIR
    default_location = "prod"                  # ASYNCSTORE_DEFAULT_LOCATION

    [discovery]
    mode = "first"                             # ASYNCSTORE_DISCOVERY__MODE
    probe_timeout = 2.5                        # ASYNCSTORE_DISCOVERY__PROBE_TIMEOUT

    [mounts]
    scratch = "${root}/scratch"                # ASYNCSTORE_MOUNTS__SCRATCH__URI

    [mounts.prod]
    uri = "s3://models/prod?region=eu-west-1"  # ASYNCSTORE_MOUNTS__PROD__URI
    read_only = true                           # ASYNCSTORE_MOUNTS__PROD__READ_ONLY

Reading settings is plain synchronous code: do it before the event loop starts, or in a thread.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack, cast, get_args

import platformdirs

from asyncstore.errors import RegistrySettingsConflict, StoreKeyFormatError
from asyncstore.given import (
    ROOT_MARK,
    Given,
    parse_bool,
    parse_one_of,
    parse_optional_text,
    parse_path,
    parse_seconds,
    parse_uri,
    unknown,
    wrong,
)
from asyncstore.keys import check_location

__all__ = ["DiscoveryPolicy", "MountSettings", "Settings", "SettingsOverrides"]

DiscoveryMode: TypeAlias = Literal["unique", "first", "unsafe-newest"]
OnError: TypeAlias = Literal["raise", "ignore"]
StrPath: TypeAlias = str | os.PathLike[str]

FILE_NAME: Final = "asyncstore.toml"
_PREFIX: Final = "ASYNCSTORE_"
_MOUNT_PREFIX: Final = "ASYNCSTORE_MOUNTS__"
_MINDTRACE_STORE_DIR: Final = "MINDTRACE_DIR_PATHS__STORE_DIR"


class SettingsOverrides(TypedDict, total=False):
    """The keyword arguments of :meth:`Settings.load`; ``None`` means "not given"."""

    root: StrPath | None
    store_dir: StrPath | None
    default_location: str | None
    mounts: Mapping[str, MountSettings | Mapping[str, object] | StrPath] | None
    discovery: DiscoveryPolicy | Mapping[str, object] | None


@dataclass(frozen=True, kw_only=True)
class MountSettings:
    """One mount: what to open, and how the store may use it.

    ``uri`` is a path or a URI such as ``memory://name`` or ``s3://bucket/prefix``.
    Credentials do not belong in it. The flags mean what they mean on ``StoreMount``.
    """

    uri: str
    read_only: bool = False
    discoverable: bool = True
    optional: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        _check_fields(self, _MOUNT)

    def __repr__(self) -> str:
        # A repr ends up in logs, and people do paste keys into URIs.
        shown = re.sub(r"//[^/@]*@", "//***@", self.uri.partition("?")[0])
        flags = f"read_only={self.read_only}, discoverable={self.discoverable}"
        return f"MountSettings(uri={shown!r}, {flags}, optional={self.optional})"


@dataclass(frozen=True)
class DiscoveryPolicy:
    """How a store resolves a name that does not say its mount.

    ``mode="unique"``: exactly one mount may have it. ``"first"``: the first mount, in mount order,
    that has the name. ``"unsafe-newest"``: the highest version over all mounts; whoever can write
    to any of them chooses what is loaded. ``probe_timeout`` is in seconds, finite and above zero,
    and starts when a probe is sent. ``on_error="ignore"`` takes a mount's error for "not there",
    with a warning. ``trust_cache=True`` asks only the mount that the location cache names.
    """

    mode: DiscoveryMode = "unique"
    probe_timeout: float = 10.0
    on_error: OnError = "raise"
    trust_cache: bool = False

    def __post_init__(self) -> None:
        _check_fields(self, _DISCOVERY)


def _default_root() -> Path:
    return platformdirs.user_data_path("asyncstore", appauthor=False)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked settings: every value has its type, every path is expanded.

    ``Settings(...)`` takes its arguments and the built-in defaults and looks at nothing else.
    :meth:`load` also reads the environment, :meth:`from_file` the environment and a TOML file.

    ``root``: the folder that ``${root}`` stands for; by default the platform's user data folder.
    ``store_dir``: where a store without mounts keeps its objects; by default ``${root}/store``.
    ``default_location``: the mount that a store takes as its default; ``None``: the first one.
    ``mounts``: name to :class:`MountSettings`, in mount order.
    ``discovery``: how unqualified reads are resolved.

    A leading ``~`` and every ``${root}`` are expanded, in mount URIs too.
    Raises :class:`RegistrySettingsConflict` where a value is not what it must be.
    """

    root: Path = field(default_factory=_default_root)
    store_dir: Path = Path(ROOT_MARK, "store")
    default_location: str | None = None
    mounts: Mapping[str, MountSettings] = field(
        default_factory=lambda: dict[str, MountSettings](), hash=False
    )
    discovery: DiscoveryPolicy = field(default_factory=DiscoveryPolicy)

    def __post_init__(self) -> None:
        _check_fields(self, _TOP)
        root = str(self.root)
        mounts: dict[str, MountSettings] = {}
        for name, mount in _checked_mounts(self.mounts).items():
            uri = mount.uri.replace(ROOT_MARK, root)
            mounts[name] = dataclasses.replace(mount, uri=uri)
        if not isinstance(cast("object", self.discovery), DiscoveryPolicy):
            raise wrong(Given(self.discovery, "Settings: discovery"), "a DiscoveryPolicy")
        store_dir = Path(str(self.store_dir).replace(ROOT_MARK, root))
        object.__setattr__(self, "store_dir", store_dir)
        object.__setattr__(self, "mounts", mounts)
        _check_default_location(Given(self.default_location, "default_location"), mounts)

    @classmethod
    def load(cls, **overrides: Unpack[SettingsOverrides]) -> Settings:
        """Read keyword arguments, then the environment, then the defaults. Opens no file.

        A keyword argument that is ``None`` counts as not given, and so does an empty variable.
        ``mounts`` replaces the mounts of every weaker source; a mapping for ``discovery``
        replaces just the fields it names. Variables that are not settings are ignored.
        Raises :class:`RegistrySettingsConflict` naming the argument or the variable.
        """
        return _resolve({}, overrides, "Settings.load")

    @classmethod
    def from_file(
        cls, path: StrPath | None = None, **overrides: Unpack[SettingsOverrides]
    ) -> Settings:
        """Like :meth:`load`, with a TOML file between the environment and the defaults.

        The file is ``path``, else ``asyncstore.toml`` in the current folder, else the one in the
        user's configuration folder, else none. A relative path in it starts at its folder.
        Raises :class:`RegistrySettingsConflict` where a given ``path`` cannot be read, the file is
        not TOML, or it holds a setting that does not exist; the message names the file.
        """
        caller = "Settings.from_file"
        file = (
            _find_file() if path is None else parse_path(Given(path, f"{caller}: path"), known=())
        )
        return _resolve({} if file is None else _read_file(file), overrides, caller)


# One source of settings: ("discovery", "mode") -> what was given. A mount also has an entry
# of its own, ("mounts", name), so that one without any field is not lost.
_Layer: TypeAlias = dict[tuple[str, ...], Given]


def _root(given: Given) -> Path:
    return parse_path(given, known=())


_TOP: Final[dict[str, Callable[[Given], Any]]] = {
    "root": _root,
    "store_dir": parse_path,
    "default_location": parse_optional_text,
}
_DISCOVERY: Final[dict[str, Callable[[Given], Any]]] = {
    "mode": parse_one_of(*get_args(DiscoveryMode)),
    "probe_timeout": parse_seconds,
    "on_error": parse_one_of(*get_args(OnError)),
    "trust_cache": parse_bool,
}
_MOUNT: Final[dict[str, Callable[[Given], Any]]] = {
    "uri": parse_uri,
    "read_only": parse_bool,
    "discoverable": parse_bool,
    "optional": parse_bool,
    "description": parse_optional_text,
}
_SECTIONS: Final = ("discovery", "mounts")


def _check_fields(instance: object, parsers: Mapping[str, Callable[[Given], Any]]) -> None:
    for name, parse in parsers.items():
        given = Given(getattr(instance, name), f"{type(instance).__name__}: {name}")
        object.__setattr__(instance, name, parse(given))


def _check_name(name: object, label: str) -> None:
    try:
        check_location(name)
    except StoreKeyFormatError as error:
        raise RegistrySettingsConflict(f"{label}: {error}") from None


def _checked_mounts(mounts: object) -> dict[str, MountSettings]:
    for name, mount in _table(Given(mounts, "Settings: mounts")).items():
        _check_name(name, "Settings: mounts")
        if not isinstance(mount, MountSettings):
            raise wrong(Given(mount, f"Settings: mounts.{name}"), "a MountSettings")
    return cast("dict[str, MountSettings]", mounts)


def _check_default_location(given: Given, mounts: Collection[str]) -> None:
    # Without mounts the store gets them elsewhere, and checks this name against those.
    if given.value is not None and mounts and given.value not in mounts:
        names = ", ".join(map(repr, mounts))
        raise wrong(given, f"one of the mounts ({names})", mounts)


def _find_file() -> Path | None:
    places = (Path(), platformdirs.user_config_path("asyncstore", appauthor=False))
    files = (place / FILE_NAME for place in places)
    # os.path.isfile says False, where Path.is_file raises, about a folder we may not look into.
    return next((file for file in files if os.path.isfile(file)), None)


def _read_file(path: Path) -> _Layer:
    path = path.absolute()
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors write a byte order mark
        table = tomllib.loads(text)
    except FileNotFoundError as error:
        raise RegistrySettingsConflict(f"there is no settings file {path}") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RegistrySettingsConflict(f"cannot read the settings file {path}: {reason}") from error
    except ValueError as error:  # not UTF-8, or not TOML: both are ValueErrors
        raise RegistrySettingsConflict(f"{path} is not a TOML file: {error}") from error
    return _flatten(table, str(path), path.parent)


def _table(given: Given) -> Mapping[object, object]:
    if isinstance(given.value, DiscoveryPolicy | MountSettings):
        return cast("Mapping[object, object]", dataclasses.asdict(given.value))
    value = given.value
    if not isinstance(value, Mapping):
        raise wrong(given, "a table of settings")
    return cast("Mapping[object, object]", value)


def _flatten(table: Mapping[str, object], source: str, base: Path | None = None) -> _Layer:
    layer: _Layer = {}
    for key, value in table.items():
        if key in _TOP:
            layer[key,] = Given(value, f"{source}: {key}", base)
        elif key == "discovery":
            layer |= _section(Given(value, f"{source}: {key}", base), (key,), _DISCOVERY)
        elif key == "mounts":
            for name, mount in _table(Given(value, f"{source}: mounts", base)).items():
                _check_name(name, f"{source}: mounts")
                layer |= _mount(str(name), Given(mount, f"{source}: mounts.{name}", base))
        else:
            raise unknown(source, key, [*_TOP, *_SECTIONS])
    return layer


def _mount(name: str, given: Given) -> _Layer:
    value = given.value
    if isinstance(value, str | os.PathLike):  # short for a table with only a uri
        given = dataclasses.replace(given, value={"uri": cast("object", value)})
    return {("mounts", name): given} | _section(given, ("mounts", name), _MOUNT)


def _section(given: Given, path: tuple[str, ...], known: Collection[str]) -> _Layer:
    layer: _Layer = {}
    for key, value in _table(given).items():
        if key not in known:
            raise unknown(given.label, key, known)
        layer[*path, str(key)] = Given(value, f"{given.label}.{key}", given.base)
    return layer


def _environment(environ: Mapping[str, str], mounts: Collection[str]) -> _Layer:
    """What the environment sets; ``mounts`` are the names that the file gave."""
    paths = [(key,) for key in _TOP] + [("discovery", key) for key in _DISCOVERY]
    variables: dict[str, tuple[str, ...]] = {_MINDTRACE_STORE_DIR: ("store_dir",)}
    variables |= {_PREFIX + "__".join(path).upper(): path for path in paths}
    layer: _Layer = {}
    for variable, path in variables.items():  # MINDTRACE comes first: a later one is stronger
        if value := environ.get(variable):
            layer[path] = Given(value, f"environment variable {variable}", is_text=True)
    # Sorted, because the order of mounts means something and that of the environment does not.
    for variable in sorted(environ):
        written, _, key = variable.removeprefix(_MOUNT_PREFIX).rpartition("__")
        if variable.startswith(_MOUNT_PREFIX) and written and key.lower() in _MOUNT:
            if not environ[variable]:
                continue
            label = f"environment variable {variable}"
            name = _mount_of_variable(written, mounts, label)
            given = Given(environ[variable], label, is_text=True)
            layer.setdefault(("mounts", name), given)
            layer["mounts", name, key.lower()] = given
    return layer


def _mount_of_variable(written: str, mounts: Collection[str], label: str) -> str:
    """The mount that a variable means: one of the file's, in capitals, or a new one."""

    def capitals(name: str) -> str:
        return re.sub(r"\W", "_", name).upper()

    if written in mounts:
        return written
    meant = [name for name in mounts if capitals(name) == capitals(written)]
    if len(meant) > 1:
        names = ", ".join(map(repr, meant))
        raise RegistrySettingsConflict(f"{label} could mean any of the mounts {names}")
    name = meant[0] if meant else written.lower()
    _check_name(name, label)
    return name


def _resolve(file: _Layer, overrides: SettingsOverrides, caller: str) -> Settings:
    named = [path[1] for path in file if path[0] == "mounts" and len(path) == 2]
    layer = file | _environment(os.environ, named)
    given = {key: value for key, value in overrides.items() if value is not None}
    if "mounts" in given:
        layer = {path: value for path, value in layer.items() if path[0] != "mounts"}
    return _build(layer | _flatten(given, caller))


def _build(layer: _Layer) -> Settings:
    top: dict[str, Any] = {}
    discovery: dict[str, Any] = {}
    mounts: dict[str, dict[str, Any]] = {}
    for path, given in layer.items():
        match path:
            case ("discovery", key):
                discovery[key] = _DISCOVERY[key](given)
            case ("mounts", name, key):
                mounts[name][key] = _MOUNT[key](given)
            case ("mounts", name):
                mounts[name] = {}
            case _:
                top[path[0]] = _TOP[path[0]](given)
    for name, fields in mounts.items():
        if "uri" not in fields:
            label = layer["mounts", name].label
            raise RegistrySettingsConflict(f"{label}: the mount {name!r} needs a uri")
    if default := layer.get(("default_location",)):
        _check_default_location(default, mounts)
    return Settings(
        **top,
        discovery=DiscoveryPolicy(**discovery),
        mounts={name: MountSettings(**fields) for name, fields in mounts.items()},
    )
