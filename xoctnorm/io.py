"""Write volumes as CF NetCDF files, all or nothing."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore
from xarray.backends.common import ArrayWriter
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK
from xarray.indexes import PandasMultiIndex

from xoctnorm import progress
from xoctnorm.cf import cf_dataset, stored
from xoctnorm.cluster import blocks_in_order, client_of, results
from xoctnorm.errors import raise_problems
from xoctnorm.files import sources, sync
from xoctnorm.gpu import on_host_to_write
from xoctnorm.pending import pending_digests, with_digests
from xoctnorm.provenance import ATTRIBUTE
from xoctnorm.text import holdable

_CHUNK_BYTES = 2**20
_CHUNK_PLANES = 16
_BLOCK_BYTES = 2**27
_LARGE_BYTES = 2**30


def write_netcdf(volume: xr.DataArray, path: str | os.PathLike[str], *, complevel: int = 1) -> Path:
    """Write a volume as a NetCDF file that follows CF-1.11.

    Plain ``xr.open_dataarray(path)`` gives the volume back, with everything that is attached to it as
    coordinates. The target is whole or untouched: the file is written under another name in the same folder,
    synced, and renamed. Chunked volumes are streamed, never loaded whole. In the file, not in the volume:

    - float16 is widened to float32, since NetCDF has no float16; big-endian values become native. NaN stays NaN.
    - A MultiIndex is written as plain coordinates; ``da.set_index(z=["section", "plane"])`` rebuilds it. Its levels
      are in ``xoctnorm_provenance`` under the key ``multiindex``, ``{"z": ["section", "plane"]}``; without that
      attribute they are in ``xoctnorm_multiindex``. Both are JSON.
    - Attributes that NetCDF cannot hold (bool, None, dict, datetime, mixed lists) become JSON.
    - Names get underscores for what is not a letter, digit or underscore. Attributes with a name that means something
      else to NetCDF get the prefix ``user_``, and so does ``axis``, which makes checkers take y for a latitude.
    - A volume without a name becomes ``volume``, a variable without ``long_name`` gets its name as one, and numbers
      without units get the units ``1``, which is what CF takes them for.

    A z that repeats itself or goes up and down is written as it is, though CF wants it monotonic.

    Parameters
    ----------
    volume
        The volume; it is not changed.
    path
        Where to write; an existing file is replaced.
    complevel
        Strength of zlib, 1 to 9, or 0 for no compression. Speckle hardly compresses: 9 takes ten times as long as 1
        and saves 3 percent more.

    Returns
    -------
    pathlib.Path
        The file that was written, with links resolved.

    Raises
    ------
    InputError
        All that is wrong with the call, in one message.
    OSError
        Writing failed, for instance because the disk is full. Nothing is left behind.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np, xarray as xr
    >>> section = ("z", ["a", "a", "b", "b"])
    >>> volume = xr.DataArray(np.ones((4, 3, 3), "float32"), dims=("z", "y", "x"), coords={"section": section})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_netcdf(volume, pathlib.Path(folder) / "brain.nc")
    ...     back = xr.load_dataarray(path)
    >>> back.name, back.section.values.tolist(), float(back.sum())
    ('volume', ['a', 'a', 'b', 'b'], 36.0)
    """
    volume = on_host_to_write(volume)
    problems = [*_path_problems(volume, path), *type_problems(volume)]
    if isinstance(complevel, bool) or not isinstance(complevel, int | np.integer) or not 0 <= complevel <= 9:
        problems.append(f"complevel={complevel!r}: needs an integer from 0 (no compression) to 9; 1 is a good choice")
    raise_problems("to_netcdf", problems)

    target = Path(path).expanduser().resolve()
    ds = cf_dataset(volume, "to_netcdf()")
    edges = {name: _chunk_edges(variable) for name, variable in ds.variables.items() if variable.ndim >= 2}
    ds = _streamable(ds, edges)
    encoding = {name: _encoding(ds, name, edges.get(name), int(complevel)) for name in ds.variables}
    # A folder, not just a file: after an interrupt, dask's threads may still reopen the file, which would
    # create it anew; in a folder that is gone they cannot.
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", suffix=".partial", dir=target.parent))
    try:
        partial, free = folder / "partial.nc", shutil.disk_usage(folder).free
        try:
            digests = _write(ds, partial, encoding, pending_digests(volume))
            if digests:
                _record_digests(partial, digests)
            sync(partial)
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError) or "NetCDF: " in str(error):
                raise _failure(target, ds.nbytes, free, error) from error
            raise
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        for file in folder.iterdir():
            # After an error NetCDF keeps the file open: unlinked only, it would go on filling the disk.
            os.truncate(file, 0)
        shutil.rmtree(folder, ignore_errors=True)
    sync(target.parent)
    return target


def _path_problems(volume: xr.DataArray, path: str | os.PathLike[str]) -> Iterator[str]:
    try:
        target = Path(path).expanduser().resolve()
        exists = target.exists()
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        yield f"path={path!r} is no path of a file ({error}); give a file name, for instance 'brain.nc'"
        return
    shown, parent = f"path={str(path)!r}", target.parent
    if not parent.is_dir():
        yield f"{shown}: the folder {str(parent)!r} does not exist; create it, or choose another"
    elif not os.access(parent, os.W_OK | os.X_OK):
        yield f"{shown}: the folder {str(parent)!r} is not writable; choose another, or change its rights"
    if target.is_dir():
        yield f"{shown} is a folder, and a file is needed; add a file name, for instance 'brain.nc'"
    elif exists and not (target.is_file() and os.access(target, os.W_OK)):
        yield f"{shown} is write-protected or no regular file; choose another path, or change its rights"
    elif exists and isinstance(volume, xr.DataArray):
        same = [source for source in sources(volume) if Path(source).exists() and target.samefile(source)]
        if same:
            yield f"{shown} is the file that the volume was read from ({same[0]!r}); choose another path"


def type_problems(volume: xr.DataArray) -> Iterator[str]:
    """What is of a type that neither NetCDF nor Zarr holds."""
    if not isinstance(volume, xr.DataArray):
        yield f"volume is a {type(volume).__name__}, and a DataArray is needed; choose one variable of a Dataset"
        return
    variables = {"the volume": volume, **{f"the coordinate {n!r}": c for n, c in volume.coords.items()}}
    for name, variable in variables.items():
        dtype = variable.dtype
        if isinstance(volume.xindexes.get(variable.name), PandasMultiIndex) and variable.name in volume.dims:
            continue  # Its levels are looked at instead.
        text = isinstance(dtype, np.dtype) and dtype.kind in "OTU"
        labels = variable.values.ravel().tolist() if text else []
        if text and dtype.kind != "U":
            fits = all(isinstance(i, str) for i in labels) or all(type(i) in (int, float) for i in labels)
        else:
            fits = (
                isinstance(dtype, np.dtype) and dtype.kind in "biufmMUS" and (dtype.kind in "US" or dtype.itemsize <= 8)
            )
        if not fits:
            yield (
                f"{name} has dtype {dtype}: files hold real numbers of up to 64 bits, bool, text and times; "
                "convert it with .astype('float64') or .astype(str)"
            )
        odd = [label for label in labels if isinstance(label, str) and not holdable(label)]
        if odd:
            yield (
                f"{name} has the text {odd[0]!r}: files hold no NUL and no lone surrogates, as of file names that are "
                "no UTF-8; assign other labels with da.assign_coords()"
            )


def _chunk_edges(variable: xr.Variable) -> dict[Hashable, int]:
    """Chunks of the file: 1 MiB, 16 planes deep, and whole planes where these are small.

    With whole planes of 1000 x 1000 a plane reads in 25 ms and an xz-cut in 1.3 s, with cubes of 64 x 128 x 128 it
    is the other way round; with 16 x 128 x 128 they take 0.3 and 0.1 s. The chunks of dask are not taken over:
    how fast a file reads should not depend on how it was computed. Of a volume that may be larger than memory nearby
    lengths are taken that fit its chunks, so that no chunk waits in memory for others.
    """
    voxels = _CHUNK_BYTES // stored(variable.dtype).itemsize
    sizes = {dim: max(size, 1) for dim, size in variable.sizes.items()}
    ny, nx = sizes.get("y", 1), sizes.get("x", 1)
    depth = min(sizes.get("z", 1), max(_CHUNK_PLANES, voxels // (ny * nx)))
    width = min(nx, max(math.isqrt(voxels // depth), voxels // depth // ny))
    longest = {"z": depth, "y": max(1, voxels // depth // width), "x": width}
    # Equal parts, so that the last chunk is not a sliver.
    edges = {dim: -(-size // -(-size // longest.get(str(dim), 1))) for dim, size in sizes.items()}
    if variable.nbytes > _LARGE_BYTES:
        edges |= {dim: _fitting(edges[dim], lengths) for dim, lengths in variable.chunksizes.items()}
    return edges


def _fitting(edge: int, lengths: tuple[int, ...]) -> int:
    """The length next to `edge`, from half of it to twice, with common borders with chunks that are all alike."""
    length = lengths[0]
    if edge == 1 or len(set(lengths[:-1])) > 1 or lengths[-1] > length:
        return edge
    nearby = range(max(1, edge // 2), 2 * edge + 1)
    fitting = [n for n in nearby if n <= sum(lengths) and (length % n == 0 or n % length == 0)]
    return min(fitting, key=lambda n: (length % n != 0, abs(n - edge)), default=edge)


def _streamable(ds: xr.Dataset, edges_of: Mapping[Hashable, Mapping[Hashable, int]]) -> xr.Dataset:
    """Let dask's chunks be whole chunks of the file: a chunk that is written in two parts is compressed twice.

    They are kept below 128 MiB, cut first along further dims, then z, y, x. What is lazy without dask, as
    xr.open_dataarray gives it, is chunked as well, since xarray would load it whole.
    """
    lazy = {}
    for name, variable in ds.variables.items():
        if variable.ndim >= 2 and not variable._in_memory:
            edges = edges_of[name]
            longest = {dim: max(parts) for dim, parts in variable.chunksizes.items()} or dict(variable.sizes)
            chunks = {dim: -(-longest[dim] // edge) * edge for dim, edge in edges.items()}
            for dim in sorted(chunks, key=lambda dim: "zyx".find(str(dim))):
                excess = -(-math.prod(chunks.values()) * variable.dtype.itemsize // _BLOCK_BYTES)
                chunks[dim] = max(1, chunks[dim] // edges[dim] // max(1, excess)) * edges[dim]
            # A name of its own: to make one, dask would read and hash all values.
            lazy[name] = variable.chunk(chunks, name=f"write-{uuid.uuid4()}")
    return ds.assign(lazy)


def _encoding(ds: xr.Dataset, name: Hashable, edges: Mapping[Hashable, int] | None, complevel: int) -> dict[str, Any]:
    variable = ds.variables[name]
    numeric = variable.dtype.kind in "biuf"
    options: dict[str, Any] = {} if name not in ds.coords and variable.dtype.kind == "f" else {"_FillValue": None}
    if edges is not None and numeric and variable.size:
        options |= {"chunksizes": tuple(edges[dim] for dim in variable.dims)}
        options |= {"zlib": complevel > 0, "complevel": complevel, "shuffle": complevel > 0}
    if numeric and variable.dtype != stored(variable.dtype):
        options["dtype"] = stored(variable.dtype)
    if name in ds.dims and variable.dtype.kind in "UOT" and variable.size and isinstance(variable.values[0], str):
        # CF's coordinate variables are numbers. Text as an array of characters is a label, and reads back the same.
        options["dtype"] = "S1"
    return options


def _write(ds: xr.Dataset, path: Path, encoding: dict[Hashable, Any], digests: dict[str, Any]) -> dict[str, int]:
    """Write a Dataset, and count lazy digests of what it is computed from in the same pass.

    `Dataset.to_netcdf` computes by itself, and whatever is computed beside it reads the input again.
    """
    # The very lock of those who read: xarray's own for writing holds the same two locks and one more, and in
    # versions of 2025 may take them in another order than readers do, so that both wait for each other for ever.
    store = NetCDF4DataStore.open(path, mode="w", format="NETCDF4", lock=NETCDF4_PYTHON_LOCK)
    writer, lock = ArrayWriter(), _WriteLock()
    try:
        ds.dump_to_store(store, writer=writer, encoding=encoding)
        if not writer.sources:
            return {}
        import dask.array

        client = client_of(writer.sources[0])
        if client is not None:
            return _write_from_cluster(client, writer, digests)
        stored = dask.array.store(
            writer.sources, writer.targets, regions=writer.regions, lock=cast("Lock", lock), compute=False
        )
        with progress.computing("write"):
            _, counted = dask.compute(stored, digests)
        return {name: int(words.sum()) for name, words in counted.items()}
    finally:
        lock.close()
        with store.lock:  # HDF5 is not safe with threads, and some may still read the input
            store.close(needs_lock=False)


def _write_from_cluster(client: Any, writer: ArrayWriter, digests: dict[str, Any]) -> dict[str, int]:
    """Write what workers compute, chunk by chunk, in this process: one file has one writer.

    Digests of a volume that a correction was applied to are counted in a read of their own.
    """
    for source, target, region in zip(writer.sources, writer.targets, writer.regions, strict=True):
        assert region is None or region == (slice(None),) * source.ndim
        for place, values in blocks_in_order(client, source):
            target[place] = values
    return {name: sum(int(words) for words in results(client, [words.sum()])) for name, words in digests.items()}


class _WriteLock:
    """Lets one thread write at a time, and none once it is closed: after an error, dask's other threads go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False

    def acquire(self) -> None:
        self._lock.acquire()
        if self._closed:
            self._lock.release()
            raise RuntimeError("writing was given up")

    def release(self) -> None:
        self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._closed = True


def _record_digests(path: Path, digests: dict[str, int]) -> None:
    import netCDF4

    with netCDF4.Dataset(path, "a") as file:
        for variable in file.variables.values():
            if ATTRIBUTE in variable.ncattrs():
                variable.setncattr(ATTRIBUTE, with_digests(variable.getncattr(ATTRIBUTE), digests))


def _failure(target: Path, needed: int, free: int, error: Exception) -> OSError:
    """Say what NetCDF does not: to it a full disk is an "HDF error"."""
    full = shutil.disk_usage(target.parent).free < 2**24 or getattr(error, "errno", None) == errno.ENOSPC
    cause = "the disk is full" if full else "perhaps a quota, a limit on file sizes, or a source that cannot be read"
    message = (
        f"writing failed ({error}): {cause}. Up to {needed:,} bytes are needed, less when they compress, and {free:,} "
        "were free. Nothing was changed; make room, or write to another disk"
    )
    return OSError(errno.ENOSPC if full else getattr(error, "errno", None) or errno.EIO, message, str(target))
