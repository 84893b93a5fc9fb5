"""Files and folders as objects: what is in them, looked at once before and once after."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from asyncstore.errors import IntegrityError, MaterializationError
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.ondisk import LocalFile, identity_of
from asyncstore.record import MAX_FILES, check_paths

PATH_ID: Final = "path"

Links = Literal["refuse", "follow"]


class PathMaterializer:
    """``pathlib.Path``: a file, or a folder with all that is in it.

    Stored are the bytes, the relative paths, executable bits and empty folders; not times, owners
    and other permissions. What is no file or folder (a device, a socket) is refused by name, and
    so are links, unless ``links="follow"``: then what they lead to is stored in their place.
    """

    id = PATH_ID
    types: tuple[type, ...] = (type(Path()),)

    def __init__(self, *, links: Links = "refuse") -> None:
        if links not in ("refuse", "follow"):
            raise MaterializationError(f"links={links!r}: expected 'refuse' or 'follow'")
        self._follow = links == "follow"

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as a Path."""
        return False

    def is_large(self, obj: Any) -> bool:
        """Always: looking at files is work for a thread."""
        return True

    def encode(self, obj: Path) -> Encoded:
        """What there is to store, with nothing read yet."""
        if type(obj) is not type(Path()):
            raise MaterializationError(f"expected a pathlib.Path, got {type(obj).__qualname__}")
        path = os.path.abspath(obj)
        status = self._look(path)
        name = os.path.basename(path)
        if stat.S_ISDIR(status.st_mode):
            files: dict[str, LocalFile] = {}
            dirs: list[str] = []
            self._walk(path, "", files, dirs, (identity_of(status)[:2],))
            kind = "folder"
        else:
            files, dirs, kind = {name: self._file(path, status)}, [], "file"
        try:
            check_paths([*files], dirs)
        except IntegrityError as error:
            raise MaterializationError(f"{path} cannot be stored: {error}") from None
        params = {"kind": kind, "name": name}
        return Encoded({}, params, dirs=tuple(sorted(dirs)), on_disk=files)

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Never asked for: files go to a folder, and not through memory."""
        raise MaterializationError("files and folders are loaded with output_dir=...")

    def _look(self, path: str) -> os.stat_result:
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not self._follow:
                    raise MaterializationError(
                        f"{path} is a link: save what it leads to, or pass "
                        "materializer=PathMaterializer(links='follow')"
                    )
                status = os.stat(path)
        except OSError as error:
            raise MaterializationError(f"{path} cannot be saved: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise MaterializationError(f"{path} is neither a file nor a folder")
        return status

    def _file(self, path: str, status: os.stat_result) -> LocalFile:
        real = os.path.realpath(path) if self._follow else path
        executable = bool(status.st_mode & stat.S_IXUSR)
        return LocalFile(real, status.st_size, executable, identity_of(status))

    def _walk(
        self,
        folder: str,
        below: str,
        files: dict[str, LocalFile],
        dirs: list[str],
        above: tuple[tuple[int, ...], ...],
    ) -> None:
        """All files of a folder; ``above`` are the folders that it is in, which a link may meet."""
        found = sorted(_names(folder))
        if not found and below:
            dirs.append(below)
        for name in found:
            path, shown = f"{folder}/{name}", f"{below}/{name}" if below else name
            status = self._look(path)
            if not stat.S_ISDIR(status.st_mode):
                files[shown] = self._file(path, status)
            elif (place := identity_of(status)[:2]) in above:
                raise MaterializationError(f"{path} leads back to a folder that it is in")
            else:
                self._walk(path, shown, files, dirs, (*above, place))
            if len(files) + len(dirs) > MAX_FILES:
                raise MaterializationError(f"more than {MAX_FILES:,} files: pack them first")


def _names(folder: str) -> Iterator[str]:
    try:
        yield from os.listdir(folder)
    except OSError as error:
        raise MaterializationError(f"{folder} cannot be saved: {error.strerror}") from error
