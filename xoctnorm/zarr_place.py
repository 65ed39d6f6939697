"""Where a Zarr store is written: a folder, or an address of another file system."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from xoctnorm.files import sources, sync
from xoctnorm.locks import lock

# Each marks the root of a Zarr store.
ROOTS = ("zarr.json", ".zgroup", ".zarray")
_SYNCED_TOGETHER = 16


@dataclass(frozen=True)
class Place:
    """Where a store is written.

    Attributes
    ----------
    fs
        The file system, as fsspec has it.
    target
        Path of the store on it.
    local
        Whether it is a folder of this machine.
    """

    fs: Any
    target: str
    local: bool

    @property
    def partial(self) -> str:
        """The sibling that says how far writing is."""
        return f"{self.target}.partial"

    @property
    def data(self) -> str:
        """Where the store is while it is written: stores that cannot rename have it at its place from the start."""
        return f"{self.partial}/store" if self.local else self.target

    @property
    def writing(self) -> str:
        """Where files are until they are whole."""
        return f"{self.partial}/writing"

    @property
    def store(self) -> str:
        """The same, as Zarr opens it."""
        return self.data if self.local else str(self.fs.unstrip_protocol(self.data))

    def is_store(self) -> bool:
        """Whether there is a whole store at the target."""
        return any(self.fs.exists(f"{self.target}/{root}") for root in ROOTS)

    def put(self, path: str, content: bytes) -> None:
        """Write a file at once: it is there whole, or as it was."""
        if not self.local:
            self.fs.pipe_file(path, content)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        new = Path(f"{path}.new")
        new.write_bytes(content)
        sync(new)
        new.replace(path)

    def write(self, path: str, content: bytes) -> None:
        """Write a file that counts only when others say so, and need not be on the disk before.

        A worker that was taken for dead may write it once more: it never is a part of what it was.
        """
        if not self.local:
            self.fs.pipe_file(path, content)
            return
        new = Path(self.writing) / uuid.uuid4().hex
        for folder in (new.parent, Path(path).parent):
            folder.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        new.replace(path)

    def sync(self, keys: Iterable[str]) -> None:
        """Have files of the store on the disk and not only in a cache, where they exist."""
        paths = (Path(f"{self.data}/{key}") for key in keys) if self.local else ()
        with ThreadPoolExecutor(_SYNCED_TOGETHER) as pool:  # a disk is quicker with several at a time
            for _ in pool.map(sync, (path for path in paths if path.exists())):
                pass

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file of the sibling."""
        self.put(f"{self.partial}/{name}", json.dumps(content).encode())

    def read_json(self, name: str) -> Any:
        """Read a file of the sibling; None where it is missing or damaged."""
        try:
            return json.loads(self.fs.cat_file(f"{self.partial}/{name}"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    @contextmanager
    def lock(self) -> Iterator[str | None]:
        """Let no other call write here; gives who does where one does. Only folders of this machine have locks."""
        if not self.local or not os.access(Path(self.target).parent, os.W_OK | os.X_OK) or self.is_foreign():
            yield None
            return
        with lock(Path(self.partial) / "lock") as holder:
            yield holder

    def is_foreign(self) -> bool:
        """Whether the sibling is there, and is not ours: it holds no plan, nor the beginnings of one."""
        if not self.fs.exists(self.partial) or self.read_json("plan.json") is not None:
            return False
        return any(name.rpartition("/")[2] not in ("plan.json.new", "lock") for name in self.fs.find(self.partial))

    def clear(self) -> None:
        """Remove what an earlier call began."""
        began = (f"{self.partial}/{name}" for name in ("replaced", "done", "plan.json"))
        self._remove(self.data, self.writing, *began)

    def close(self) -> None:
        """Remove the sibling; its plan, by which it is known as ours, goes last."""
        self._remove(self.writing, f"{self.partial}/replaced", f"{self.partial}/done", self.partial)

    def _remove(self, *paths: str) -> None:
        for path in paths:
            if self.fs.exists(path):
                self.fs.rm(path, recursive=True)

    def rename(self) -> None:
        """Let the store that is whole take its name; at every moment it or what it replaces is whole."""
        if not self.local:
            return
        target, partial = Path(self.target), Path(self.partial)
        if target.exists():
            target.replace(partial / "replaced")
        (partial / "store").replace(target)
        sync(target.parent)

    def recover(self) -> None:
        """Put in order what an earlier call left that was stopped while names changed or the sibling went."""
        if self.read_json("plan.json") is None:
            return
        target, replaced = Path(self.target), Path(self.partial) / "replaced"
        if self.local and replaced.exists() and not target.exists():
            replaced.replace(target)
        if self.is_store() and not (self.local and Path(self.data).exists()):
            self.close()


def find_place(path: str | os.PathLike[str]) -> Place:
    """The place that a path or an address names."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(path, str) and "://" in path:
        fs, target = url_to_fs(path)
        if not isinstance(fs, LocalFileSystem):
            return Place(fs, target.rstrip("/"), local=False)
        path = target
    return Place(LocalFileSystem(), str(Path(path).expanduser().resolve()), local=True)


def place_problems(volume: xr.DataArray, place: Place, overwrite: object) -> Iterator[str]:
    """What is wrong with a place for a store."""
    shown = f"path={place.target!r}"
    if not isinstance(overwrite, bool):
        yield f"overwrite={overwrite!r}: needs True or False"
    if place.local:
        parent = Path(place.target).parent
        if not parent.is_dir():
            yield f"{shown}: the folder {str(parent)!r} does not exist; create it, or choose another"
            return
        if not os.access(parent, os.W_OK | os.X_OK):
            yield f"{shown}: the folder {str(parent)!r} is not writable; choose another, or change its rights"
    exists, planned = place.fs.exists(place.target), place.read_json("plan.json") is not None
    if exists and place.is_store():
        if isinstance(volume, xr.DataArray) and place.target in {_plain(source) for source in sources(volume)}:
            yield f"{shown} is what the volume was read from; choose another path"
        elif not overwrite:
            yield f"{shown} exists; pass overwrite=True to replace it, or choose another path"
        elif not place.local:
            yield f"{shown} exists, and cannot be moved aside on this file system: remove it, or choose another path"
    elif exists and (place.local or not planned):
        yield f"{shown} exists and is no Zarr store; choose another path, or remove it"
    if place.is_foreign():
        yield (
            f"{place.partial!r} is needed for what is incomplete, and holds something else: remove or rename it, or "
            "choose another path"
        )


def _plain(source: str) -> str:
    """A source as the path of a place; some are no paths."""
    try:
        return find_place(source).target
    except (ImportError, OSError, RuntimeError, ValueError):
        return source
