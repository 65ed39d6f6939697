"""Digests of chunked volumes that a correction was applied to: counted when the result is written.

`apply` does not read a chunked volume, so it cannot know its digest. The graph of the result still leads to the
volume: a writer counts the digest in the same pass in which it computes what it writes.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.kernels.digest import digest_block
from xoctnorm.provenance import ATTRIBUTE, digest_text, record, steps_of

if TYPE_CHECKING:
    from dask.array import Array


@dataclass(frozen=True)
class _Chunked:
    """What it takes to find a chunked array again in a graph that it is part of."""

    chunks: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    dims: tuple[str, ...]


# Names of chunked arrays that await their digest; an entry goes when the last graph with that array goes.
_awaiting: dict[str, _Chunked] = {}


def await_digest(data: xr.Variable, dims: tuple[str, ...]) -> str:
    """Remember a chunked array, whose digest counts its voxels with `dims` in this order; return its name."""
    array = data.data
    name: str = array.name
    if name not in _awaiting:
        _awaiting[name] = _Chunked(array.chunks, array.dtype, tuple(data.get_axis_num(dim) for dim in dims), dims)
        weakref.finalize(array.dask.layers[name], _awaiting.pop, name, None)
    return name


def pending_digests(volume: xr.DataArray, region: Mapping[Hashable, slice] | None = None) -> dict[str, Array]:
    """Digests that the record of a volume lacks and that its graph leads to, by name of the array.

    Each is a chunked array whose sum, modulo 2⁶⁴, is the digest, or what a region of the volume adds to it.
    """
    if volume.chunks is None:
        return {}
    lacking = {step["applied_to"].get("awaits") for step in steps_of(volume.attrs) if step["applied_to"]}
    layers = volume.data.dask.layers
    return {name: _lazy_words(volume, name, region or {}) for name in lacking if name in _awaiting and name in layers}


def with_digests(attribute: str, digests: dict[str, int]) -> str:
    """The JSON record with digests where they were awaited."""
    steps = steps_of({ATTRIBUTE: attribute})
    for step in steps:
        applied_to = step["applied_to"] or {}
        if applied_to.get("awaits") in digests:
            applied_to["digest"] = digest_text(digests[applied_to.pop("awaits")])
    whole = json.loads(attribute)
    return record(steps, **{key: value for key, value in whole.items() if key not in ("schema_version", "steps")})


def _lazy_words(volume: xr.DataArray, name: str, region: Mapping[Hashable, slice]) -> Array:
    """Sum of words of every chunk of the array: an array too, so that dask plans it together with the result."""
    from dask.array import Array, zeros

    known = _awaiting[name]
    whole = Array(volume.data.dask, name, known.chunks, dtype=known.dtype).transpose(known.axes)
    at = [region.get(dim, slice(0, None)) for dim in known.dims]
    if dict(zip(known.dims, whole.shape, strict=True)) != dict(volume.sizes):
        # The volume is a part of what was corrected: its first region counts for all.
        if any(part.start for part in at):
            nothing: Array = zeros(1, dtype=np.uint64)
            return nothing
        at = [slice(0, None) for _ in at]
    array = whole[tuple(at)]
    words: Array = array.map_blocks(
        _words_of_block,
        origin=tuple(part.start for part in at),
        shape=whole.shape,
        dtype=np.uint64,
        chunks=tuple((1,) * n for n in array.numblocks),
    )
    return words


def _words_of_block(
    block: NDArray[np.generic],
    origin: tuple[int, ...],
    shape: tuple[int, ...],
    block_info: dict[Any, Any] | None = None,
) -> NDArray[np.uint64]:
    if not block_info:  # dask asks for the type with an empty block
        return np.zeros((1,) * block.ndim, np.uint64)
    starts = (start for start, _ in block_info[0]["array-location"])
    place = tuple(first + start for first, start in zip(origin, starts, strict=True))
    return np.full((1,) * block.ndim, digest_block(block, place, shape), np.uint64)
