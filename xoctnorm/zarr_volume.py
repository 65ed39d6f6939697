"""Write volumes as Zarr stores that xarray opens."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.cf import cf_dataset
from xoctnorm.errors import raise_problems
from xoctnorm.gpu import on_host_to_write
from xoctnorm.io import type_problems
from xoctnorm.optional import missing
from xoctnorm.pieces import Region, file_chunks, piece_ends, written_alone
from xoctnorm.provenance import ATTRIBUTE, SOURCE, jsonable, steps_of
from xoctnorm.zarr_chunks import compressors
from xoctnorm.zarr_place import Place, find_place, place_problems
from xoctnorm.zarr_store import Contents, write_store


def write_zarr(volume: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path | str:
    """Write a volume as a Zarr store that resumes after an interruption; see the accessor's ``to_zarr``."""
    volume = on_host_to_write(volume)
    with checked_place("to_zarr", volume, path, overwrite) as place:
        ds, lazy = prepared(volume, "to_zarr()")
        (name,) = ds.data_vars
        chunks, ends = layout(volume)
        lengths = chunk_lengths(volume, ds[name].variable, chunks)
        contents = Contents(
            documents=documents(ds, list(lazy), lengths, zarr_format=3),
            ends=ends,
            identity={"call": "to_zarr", **identity(volume, ds)},
            blocks=lambda region: {
                key: part(variable, volume, ds[name].dims, region) for key, variable in lazy.items()
            },
        )
        write_store("to_zarr", volume, contents, place)
    return Path(place.target) if place.local else str(path)


@contextmanager
def checked_place(
    call: str, volume: xr.DataArray, path: str | os.PathLike[str], overwrite: bool, *more: str
) -> Iterator[Place]:
    """The place that a path names, once nothing is wrong with the call; no other call writes there meanwhile."""
    problems = [*more, *type_problems(volume), *missing("zarr", "writing Zarr")]
    if isinstance(volume, xr.DataArray):
        lacking = [dim for dim in ("z", "y", "x") if dim not in volume.dims]
        if lacking:
            problems.append(
                f"the volume has dims {volume.dims} and lacks {', '.join(map(repr, lacking))}: rename yours with "
                "da.rename({'old': 'new'})"
            )
        if 0 in volume.shape:
            problems.append(f"the volume is empty: its shape is {volume.shape}")
    with ExitStack() as locks:
        try:
            place = find_place(path)
            holder = locks.enter_context(place.lock())
            if holder is None:
                place.recover()
                problems += place_problems(volume, place, overwrite)
            else:
                problems.append(f"path={place.target!r} is being written by {holder}: wait for it, or stop it")
        except (ImportError, TypeError, ValueError, RuntimeError) as error:
            problems.append(f"path={path!r} is no path of a store ({error}); give a name, for instance 'brain.zarr'")
        raise_problems(call, problems)
        yield place


def prepared(volume: xr.DataArray, call: str) -> tuple[xr.Dataset, dict[str, xr.Variable]]:
    """What goes into the file, small variables in memory, and the large ones by name."""
    ds = cf_dataset(volume, call)
    lazy = {str(key): variable for key, variable in ds.variables.items() if key in ds.data_vars or is_lazy(variable)}
    return ds.assign({key: ds[key].variable.compute() for key in ds.variables if key not in lazy}), lazy


def layout(volume: xr.DataArray) -> tuple[dict[Hashable, int], list[int]]:
    """Chunks of the file by dim of the volume, and where pieces along z end."""
    # Those of the values: coordinates such as a mask may be chunked otherwise.
    incoming = {dim: volume.variable.chunksizes.get(dim, (size,)) for dim, size in volume.sizes.items()}
    chunks = file_chunks(volume.sizes, volume.dtype.itemsize, incoming)
    plane_bytes = volume.sizes["y"] * volume.sizes["x"] * volume.dtype.itemsize
    alone = written_alone(incoming, volume.dtype.itemsize)
    return chunks, piece_ends(volume.sizes["z"], chunks["z"], plane_bytes, incoming["z"], alone=alone)


def is_lazy(variable: xr.Variable) -> bool:
    """Whether a variable is written piece after piece, since it may be as large as the volume."""
    return variable.ndim >= 2 and not variable._in_memory and variable.dtype.kind in "biuf"


def chunk_lengths(volume: xr.DataArray, written: xr.Variable, chunks: Mapping[Hashable, int]) -> dict[Hashable, int]:
    """Chunks of the file by the name that a dim has there."""
    return {new: chunks[old] for old, new in zip(volume.dims, written.dims, strict=True)}


def part(variable: xr.Variable, volume: xr.DataArray, dims: Sequence[Hashable], region: Region) -> xr.Variable:
    """Values of a piece, chunked, with the names that dims have in the volume; `dims` are those of the file."""
    names = dict(zip(dims, volume.dims, strict=True))
    own = xr.Variable([names[dim] for dim in variable.dims], variable._data, fastpath=True)
    some = own.isel({dim: at for dim, at in region.items() if dim in own.dims})
    # A name of its own: to make one, dask would read and hash all values.
    return some if some.chunks is not None else some.chunk(dict(some.sizes), name=f"write-{uuid.uuid4()}")


def documents(
    ds: xr.Dataset,
    lazy: Sequence[str],
    lengths: Mapping[Hashable, int],
    *,
    zarr_format: int,
    group: str | None = None,
    begun: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Metadata of a store, and arrays that are in memory, by their keys; of lazy arrays only the metadata.

    With `begun` they are added to a store that has some.
    """
    import dask.array
    import zarr
    from zarr.storage import MemoryStore

    stand_ins = {
        name: ds[name].variable._replace(data=dask.array.empty(ds[name].shape, dtype=ds[name].dtype, chunks=-1))
        for name in lazy
    }
    encoding: dict[str, Any] = {}
    for name, variable in ds.variables.items():
        chunks = tuple(lengths.get(dim, size) if name in lazy else max(1, size) for dim, size in variable.sizes.items())
        encoding[str(name)] = {"chunks": chunks, "compressors": compressors(zarr_format)} if chunks else {}
        if name in ds.coords or variable.dtype.kind != "f":
            encoding[str(name)]["_FillValue"] = None
    texts = {name: _text(ds[name].variable, zarr_format) for name in ds.variables if ds[name].dtype.kind in "SUOT"}
    content = dict(begun or {})
    store = MemoryStore(content)
    with warnings.catch_warnings():
        # All readers of Zarr 3 that don't know consolidated metadata ignore them, and xarray warns where they lack.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        whole = ds.assign(stand_ins).assign(texts).drop_encoding()
        options: dict[str, Any] = {"zarr_format": zarr_format, "encoding": encoding, "consolidated": False}
        whole.to_zarr(store, group=group, compute=False, **options)
        zarr.consolidate_metadata(store, zarr_format=options["zarr_format"])
    return {key: value.to_bytes() for key, value in content.items()}


def _text(variable: xr.Variable, zarr_format: int) -> xr.Variable:
    """Text as the format has it: of fixed length it is not specified for Zarr 3."""
    values = variable.to_numpy()
    if values.dtype.kind == "S":
        values = np.char.decode(values, errors="replace")
    if all(isinstance(item, str) for item in values.ravel().tolist()):
        values = values.astype(np.dtypes.StringDType() if zarr_format == 3 else str)
    return xr.Variable(variable.dims, values, variable.attrs)


def identity(volume: xr.DataArray, ds: xr.Dataset) -> dict[str, Any]:
    """What must be the same where writing goes on: all but chunks and times."""
    first = volume.isel({dim: 0 for dim in volume.dims if dim not in ("y", "x")})
    return {
        "version": SOURCE,
        "name": next(iter(ds.data_vars)),
        "dims": list(volume.dims),
        "shape": list(volume.shape),
        "dtype": volume.dtype.name,
        "attributes": jsonable({k: v for k, v in volume.attrs.items() if k not in ("history", ATTRIBUTE)}),
        "steps": [dict(_timeless(step)) for step in steps_of(volume.attrs)],
        "coordinates": {str(name): _coordinate(coord.variable) for name, coord in ds.coords.items()},
        "first plane": _hash(first.variable.compute()),
    }


def _timeless(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A step of the record without what differs where the same is done again."""
    for key, value in node.items():
        if key not in ("time", "awaits"):
            yield key, dict(_timeless(value)) if isinstance(value, dict) else value


def _coordinate(variable: xr.Variable) -> dict[str, Any]:
    return {
        "dims": list(variable.dims),
        "shape": list(variable.shape),
        "dtype": variable.dtype.name if variable.dtype.kind in "biufmM" else "text",
        "attributes": jsonable(variable.attrs),
        "values": "lazy" if is_lazy(variable) else _hash(variable),
    }


def _hash(variable: xr.Variable) -> str:
    values = variable.to_numpy()
    content = values.tobytes() if values.dtype.kind in "biufmM" else repr(values.tolist()).encode()
    return hashlib.sha256(content).hexdigest()[:16]
