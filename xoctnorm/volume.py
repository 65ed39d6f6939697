"""The one crossing between labels and arrays: planes of a labelled volume, in order, a block at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.agarose import AgaroseMask
from xoctnorm.depths import depth_of_planes, position_of_planes
from xoctnorm.kernels.strips import single, strips
from xoctnorm.sections import Sections, plane_dims
from xoctnorm.statistics import Survey
from xoctnorm.threads import in_threads

Plane = NDArray[np.float32]
Result = TypeVar("Result")

BLOCK_BYTES = 64 * 2**20  # chunks are read together up to here
LARGEST_CHUNK_BYTES = 256 * 2**20  # a larger one is read in slices along z


@dataclass(frozen=True)
class Transfer:
    """What one correction does to a plane: a function of the plane and of the plane's parameters.

    The function may write into the plane that it is given. The parameters are small Variables with dims that number
    planes, y and x, to which they are broadcast, and dims of their own, which come whole. The function gets of each
    what belongs to the plane, or to the part of a plane, that it is given: a number, or an array with the rest of the
    dims in the order y, x, its own.
    """

    function: Callable[..., Plane]
    parameters: tuple[xr.Variable, ...] = ()


@dataclass(frozen=True)
class Planes:
    """Planes as arrays: the leading dims of `data` number them, its last two are y and x.

    Corrections are appended with `through` and happen when planes are read.

    Attributes
    ----------
    data
        The values as they came.
    transfers
        Corrections so far.
    """

    data: xr.Variable
    transfers: tuple[Transfer, ...] = ()

    def per_plane(self, values: NDArray[np.generic]) -> xr.Variable:
        """One value for every plane, in plane order, as a Variable with the dims of the planes."""
        return xr.Variable(self.data.dims[:-2], np.reshape(values, self.data.shape[:-2]))

    def through(self, *transfers: Transfer) -> Self:
        """The same planes, read through further transfers."""
        return replace(self, transfers=(*self.transfers, *transfers))

    def raw_planes(self) -> Iterator[NDArray[np.generic]]:
        """Planes as they came, in plane order. One pass is one read of the volume."""
        for _, block in self._blocks():
            yield from block

    def raw_blocks(self) -> Iterator[NDArray[np.generic]]:
        """Some planes `(z, y, x)` at a time as they came, in plane order. One pass is one read of the volume."""
        for _, block in self._blocks():
            yield block

    def planes(self) -> Iterator[Plane]:
        """Planes in plane order, in float32, after all transfers. One pass is one read of the volume."""
        axes = self._axes()
        for _, plane, parameters in self._jobs(None):
            corrected = np.empty(plane.shape, np.float32)
            _through(self.transfers, plane, parameters, axes, corrected)
            yield corrected

    def each_plane(
        self, function: Callable[[int, Plane], Result], only: NDArray[np.bool_] | None = None
    ) -> Iterator[Result]:
        """Results of `function(number, plane)` in plane order, of all planes or of some, side by side in threads.

        Planes are in float32, after all transfers. The function may neither write into one, which may be the user's,
        nor keep it, since it is overwritten when the function returns. One pass is one read of the volume.
        """
        axes, own = self._axes(), threading.local()

        def of_plane(job: tuple[int, NDArray[np.generic], list[Any]]) -> Result:
            number, plane, parameters = job
            if not self.transfers:
                return function(number, single(plane))
            if not hasattr(own, "plane"):
                own.plane = np.empty(plane.shape, np.float32)
            _through(self.transfers, plane, parameters, axes, own.plane)
            return function(number, own.plane)

        return in_threads(of_plane, self._jobs(only))

    def _jobs(self, only: NDArray[np.bool_] | None) -> Iterator[tuple[int, NDArray[np.generic], list[Any]]]:
        """Number, values and parameters of every plane."""
        wanted = None if only is None else only.reshape(self.data.shape[:-2])
        numbers = np.arange(np.prod(self.data.shape[:-2])).reshape(self.data.shape[:-2])
        for key, block in self._blocks(wanted):
            parameters = [values[key] for values in self._laid_out()]
            for at, (number, plane) in enumerate(zip(numbers[key].tolist(), block, strict=True)):
                if only is None or only[number]:
                    yield number, plane, [p[at] for p in parameters]

    def correct(
        self, dtype: np.dtype[np.generic], see: Callable[[NDArray[np.generic]], None] | None = None
    ) -> xr.Variable:
        """All planes after all transfers, lazily where the volume is chunked; otherwise `see` sees each as it came."""
        correct_block = partial(_correct_block, transfers=self.transfers, axes=self._axes(), dtype=dtype)
        if self.data.chunks is not None:
            parameters = [p for t in self.transfers for p in t.parameters]
            result: xr.Variable = xr.apply_ufunc(
                correct_block,
                self.data,
                *parameters,
                input_core_dims=[[], *(self._own_dims(p) for p in parameters)],
                dask="parallelized",
                output_dtypes=[dtype],
            )
            return result
        out = np.empty(self.data.shape, dtype)
        planes = out.reshape(-1, *out.shape[-2:])
        axes = self._axes()

        def of_plane(job: tuple[int, NDArray[np.generic], list[Any]]) -> NDArray[np.generic]:
            number, plane, parameters = job
            _through(self.transfers, plane, parameters, axes, planes[number])
            return plane

        for plane in in_threads(of_plane, self._jobs(None)):
            if see is not None:
                see(plane)
        return xr.Variable(self.data.dims, out)

    def _own_dims(self, parameter: xr.Variable) -> list[Hashable]:
        """Dims of a parameter that are none of the volume."""
        return [dim for dim in parameter.dims if dim not in self.data.dims]

    def _laid_out(self) -> Iterator[NDArray[np.generic]]:
        """Parameters of all transfers for every plane, as views; y and x have length 1 where a parameter lacks them."""
        dims = self.data.dims
        lead = dict(zip(dims[:-2], self.data.shape[:-2], strict=True))
        for transfer in self.transfers:
            for parameter in transfer.parameters:
                across = {dim: parameter.sizes.get(dim, 1) for dim in dims[-2:]}
                own = self._own_dims(parameter)
                sizes = {**lead, **across, **{dim: parameter.sizes[dim] for dim in own}}
                yield np.asarray(parameter.set_dims(sizes).transpose(*dims, *own).data)

    def _axes(self) -> list[_Axes]:
        """Axes of the parameters of all transfers."""
        parameters = (p for transfer in self.transfers for p in transfer.parameters)
        return [
            _Axes(tuple(slice(None) if dim in p.dims else 0 for dim in self.data.dims[-2:]), len(self._own_dims(p)))
            for p in parameters
        ]

    def _blocks(self, wanted: NDArray[np.bool_] | None = None) -> Iterator[tuple[tuple[Any, ...], NDArray[np.generic]]]:
        """Runs of whole planes as NumPy arrays `(z, y, x)`, with the place of each run in `data`.

        Of a run only what lies from its first to its last wanted plane is read.
        """
        for outer in np.ndindex(self.data.shape[:-3]):
            for start, stop in self._runs():
                if wanted is not None:
                    places = start + np.flatnonzero(wanted[(*outer, slice(start, stop))])
                    if not places.size:
                        continue
                    start, stop = int(places[0]), int(places[-1]) + 1
                key = (*outer, slice(start, stop))
                block = self.data[key].data
                yield key, np.asarray(block.compute() if hasattr(block, "compute") else block)
                progress.advance(stop - start)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Runs along z: whole chunks together as long as they are small, large ones in slices."""
        n_z = self.data.shape[-3]
        plane_bytes = max(1, self.data.dtype.itemsize * int(np.prod(self.data.shape[-2:])))
        chunks = self.data.chunks[-3] if self.data.chunks is not None else (n_z,)
        edges = np.cumsum((0, *chunks))
        start = 0
        for stop, after in zip(edges[1:], [*edges[2:], None], strict=True):
            if after is not None and (after - start) * plane_bytes <= BLOCK_BYTES:
                continue
            whole = (stop - start) * plane_bytes <= LARGEST_CHUNK_BYTES
            length = stop - start if whole else max(1, BLOCK_BYTES // plane_bytes)
            for first in range(start, stop, length):
                yield first, min(first + length, int(stop))
            start = int(stop)


PlanesT = TypeVar("PlanesT", bound=Planes)


@dataclass(frozen=True)
class Volume(Planes):
    """One volume, without further dims, of which statistics are taken.

    Attributes
    ----------
    sections
        Section of every plane.
    survey
        What the first read told.
    agarose
        Agarose mask, once it is known.
    tissue
        Tissue mask with the dims of `data`, where the user gave one.
    seeds
        Certain agarose, where the user gave some.
    pixel_area
        Area of a pixel in units of the coordinates y and x.
    units
        Units of the values, where the user gave some.
    described
        Name and long name of the volume.
    depth, position
        Coordinates of every plane with these names, where the user has them.
    noise
        True on voxels without signal, `(y, x)` or with the dims of `data`, where the user marked some.
    """

    sections: Sections = field(kw_only=True)
    survey: Survey = field(kw_only=True)
    agarose: AgaroseMask | None = None
    tissue: xr.Variable | None = None
    seeds: AgaroseMask | None = None
    pixel_area: float = 1.0
    units: str | None = None
    described: str = ""
    depth: NDArray[np.float64] | None = None
    position: NDArray[np.float64] | None = None
    noise: xr.Variable | None = None

    def samples(self) -> Iterator[Plane]:
        """Some values of every plane after all transfers, as the first read found them.

        They have no place in the plane, so parameters may not vary over y and x.
        """
        axes = self._axes()
        assert not any(isinstance(at, slice) for one in axes for at in one.across)
        laid_out = [p.reshape(-1, *p.shape[self.data.ndim - 2 :]) for p in self._laid_out()]
        for number, values in enumerate(self.survey.samples):
            some = np.empty((1, values.size), np.float32)
            _through(self.transfers, values[None], [p[number] for p in laid_out], axes, some)
            yield some[0]

    @property
    def depths(self) -> NDArray[np.int64]:
        """Depth of every plane below the cut, in planes."""
        return depth_of_planes(self.sections, self.depth)

    @property
    def positions(self) -> NDArray[np.float64]:
        """Position of every plane through the tissue, in planes."""
        return position_of_planes(self.sections, self.position)


def volume_dims(da: xr.DataArray, section: str) -> tuple[str, ...]:
    """Dims in the order of `Volume.data`."""
    planes = plane_dims(da, section)
    return (*extra_dims(da, section), *planes, "y", "x")


def extra_dims(da: xr.DataArray, section: str) -> tuple[str, ...]:
    """Dims of independent volumes, by name."""
    known = {*plane_dims(da, section), "y", "x"}
    return tuple(sorted(str(dim) for dim in da.dims if dim not in known))


class _Axes(NamedTuple):
    """What one plane takes of a parameter: along y and x all, or the one value where it lacks them; its own dims."""

    across: tuple[slice | int, ...]
    n_own: int

    def of_strip(self, values: NDArray[np.generic], rows: slice) -> Any:
        """What a strip of a plane takes of the values of its plane."""
        along_y, along_x = self.across
        return values[rows if isinstance(along_y, slice) else along_y, along_x]

    def laid_out(self, values: NDArray[np.generic], block: tuple[int, ...]) -> NDArray[np.generic]:
        """Values with all axes of a block, and their own, as a view."""
        across = [n if isinstance(at, slice) else 1 for n, at in zip(block[-2:], self.across, strict=True)]
        return np.broadcast_to(values, (*block[:-2], *across, *values.shape[values.ndim - self.n_own :]))


def _correct_block(
    block: NDArray[np.generic],
    *parameters: NDArray[np.generic],
    transfers: tuple[Transfer, ...],
    axes: Sequence[_Axes],
    dtype: np.dtype[np.generic],
) -> NDArray[np.generic]:
    """Correct planes, or parts of planes."""
    laid_out = [one.laid_out(values, block.shape) for one, values in zip(axes, parameters, strict=True)]
    out = np.empty(block.shape, dtype)
    for plane in np.ndindex(block.shape[:-2]):
        _through(transfers, block[plane], [p[plane] for p in laid_out], axes, out[plane])
    return out


def _through(
    transfers: tuple[Transfer, ...],
    plane: NDArray[np.generic],
    parameters: Sequence[NDArray[np.generic]],
    axes: Sequence[_Axes],
    out: NDArray[np.generic],
) -> None:
    """Correct a plane into `out`, strip by strip: all transfers of one happen while it is in the cache."""
    for rows in strips(plane.shape):
        strip = out[rows] if out.dtype == np.float32 else np.empty(out[rows].shape, np.float32)
        strip[...] = plane[rows]
        corrected, rest = strip, iter(zip(parameters, axes, strict=True))
        for transfer in transfers:
            of_strip = [one.of_strip(values, rows) for values, one in islice(rest, len(transfer.parameters))]
            corrected = transfer.function(corrected, *of_strip)
        if corrected is not strip or out.dtype != np.float32:
            out[rows] = corrected
