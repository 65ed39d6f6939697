"""Volumes of the host on a graphics processor: a block goes there, and what becomes of it comes back.

The device computes what arrays of CuPy are computed by, see `kernels.backend`; here is when it is used, and its name.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.blocks import BLOCK_BYTES, memory_of
from xoctnorm.kernels.backend import on_host, to_host

REQUIRE = "require"
EXTRAS = "pip install 'xoctnorm[gpu-cuda12]', or 'xoctnorm[gpu-cuda13]' for CUDA 13"

UseGPU = bool | str


def lacking() -> str | None:
    """What CuPy lacks to compute here; None where it has a device, memory on it, and a kernel that runs."""
    try:
        with warnings.catch_warnings():  # CuPy warns of what it does not find; that is told here
            warnings.simplefilter("ignore")
            import cupy
    except ImportError as error:
        return f"CuPy cannot be imported ({error}): {EXTRAS}"
    try:
        if not cupy.is_available():
            return f"CuPy {cupy.__version__} finds no device: is there one, and is its driver new enough?"
        works = int((cupy.ones(2, dtype=cupy.float32) + 1).sum()) == 4
    except Exception as error:  # whatever a driver, a compiler or a full memory may raise
        return f"CuPy {cupy.__version__} finds a device and fails on it ({type(error).__name__}: {error})"
    return None if works else f"CuPy {cupy.__version__} finds a device that computes something wrong"


def use_problems(use_gpu: object) -> list[str]:
    """What is wrong with `use_gpu`: another value, or a device that is required and does not work."""
    if not isinstance(use_gpu, bool | np.bool_) and use_gpu != REQUIRE:
        return [f"use_gpu={use_gpu!r}: needs False, True (the CPU where there is no device), or {REQUIRE!r}"]
    problem = lacking() if use_gpu == REQUIRE else None
    return [] if problem is None else [f"use_gpu={REQUIRE!r}: {problem}"]


def circumstance(data: xr.Variable, use_gpu: UseGPU) -> dict[str, str]:
    """What the record says of the device: its name and library, and why it is the CPU where a device was asked for."""
    memory = memory_of(data)
    if not on_host(memory):
        return {"device": _name(memory)}
    problem = lacking() if use_gpu else None
    if problem is not None:
        return {"device": "cpu", "without_gpu": problem}
    return {"device": _name(_library().empty(0)) if use_gpu else "cpu"}


def _name(memory: Any) -> str:
    """Device and library of an array."""
    library = type(memory).__module__.partition(".")[0]
    if library != "cupy":
        return f"{getattr(memory, 'device', 'unknown')} ({library})"
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(memory.device.id)["name"].decode()
    return f"{name} (cupy {cupy.__version__})"


def _library() -> Any:
    import cupy

    return cupy


def streamed(data: xr.Variable, use_gpu: UseGPU) -> xr.Variable:
    """Values that go to the device block by block when they are computed; as they are where it is not to be used.

    The blocks are the chunks of the values, or runs of planes of 64 MiB.
    """
    if not use_gpu or not on_host(memory_of(data)) or lacking() is not None:
        return data
    if data.chunks is None:
        plane_bytes = max(1, data.dtype.itemsize * int(np.prod(data.shape[-2:])))
        lengths = dict.fromkeys(data.dims[:-3], 1) | {data.dims[-3]: max(1, BLOCK_BYTES // plane_bytes)}
        data = data.chunk({**lengths, **dict.fromkeys(data.dims[-2:], -1)}, name=f"host-{uuid.uuid4()}")
    dtype = data.dtype.newbyteorder("=")
    there = data.data.map_blocks(_upload, dtype=dtype, meta=_library().empty((0,) * data.ndim, dtype=dtype))
    return xr.Variable(data.dims, there)


def loops_on_host(data: xr.Variable, use_gpu: UseGPU) -> bool:
    """Whether values are looked at where the compiled loops are."""
    return on_host(memory_of(streamed(data, use_gpu)))


def uploading(planes: Any, use_gpu: UseGPU) -> Callable[[Any], Any]:
    """What brings planes to the device, one by one; it leaves them where they are where that is not to be used."""
    return _upload if use_gpu and on_host(planes) and lacking() is None else lambda plane: plane


def _upload(block: NDArray[np.generic]) -> Any:
    return _library().asarray(block)


def fetched(result: xr.Variable, like: xr.Variable) -> xr.Variable:
    """A result on the host, where the values that it was made from are there: block after block, or lazily as they."""
    if on_host(memory_of(result)) or not on_host(memory_of(like)):
        return result
    lazy = _as_numpy(result)
    if like.chunks is not None:
        return lazy
    import dask.array

    values = np.empty(result.shape, result.dtype)
    dask.array.store(lazy.data, values, lock=False, scheduler="synchronous")  # one block at a time
    return xr.Variable(result.dims, values)


def on_host_to_write(volume: xr.DataArray) -> xr.DataArray:
    """The volume, and what is attached to it, on the host, for a writer: chunks come when they are computed."""
    if not isinstance(volume, xr.DataArray):  # of which the writer complains
        return volume
    coords = {name: _as_numpy(c.variable) for name, c in volume.coords.items() if _on_device(c.variable)}
    if on_host(memory_of(volume.variable)) and not coords:
        return volume
    return volume.copy(deep=False, data=_as_numpy(volume.variable).data).assign_coords(coords)


def _on_device(values: xr.Variable) -> bool:
    memory = memory_of(values)
    return hasattr(memory, "__array_function__") and not on_host(memory)  # arrays of pandas are none of these


def _as_numpy(values: xr.Variable) -> xr.Variable:
    if values.chunks is None:
        return values.copy(deep=False, data=to_host(values.data))
    meta = np.empty((0,) * values.ndim, values.dtype)
    return values.copy(deep=False, data=values.data.map_blocks(to_host, dtype=values.dtype, meta=meta))
