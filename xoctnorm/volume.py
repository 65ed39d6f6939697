"""The one crossing between labels and arrays: planes of a labelled volume, in order, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.agarose import AgaroseMask
from xoctnorm.blocks import Place, Room, loaded, memory_of, places, values_on_host
from xoctnorm.depths import depth_of_planes, position_of_planes
from xoctnorm.findings import PlaneEnds, SectionPercentiles, TissueMeans
from xoctnorm.kernels.backend import alike, namespace, side_by_side
from xoctnorm.kernels.background import between
from xoctnorm.sections import Sections, plane_dims
from xoctnorm.transfers import Axes, Fold, Job, Look, Plane, Transfer, correct_block, through

if TYPE_CHECKING:
    from xoctnorm.statistics import Survey

Result = TypeVar("Result")
Left = TypeVar("Left")


class OfPlanes(Protocol):
    """Something that has an array for every plane, as the agarose mask."""

    def of_plane(self, number: int) -> NDArray[np.generic]:
        """What belongs to a plane."""


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
        return chain.from_iterable(self._blocks(None))

    def raw_blocks(self) -> Iterator[NDArray[np.generic]]:
        """Some planes `(z, y, x)` at a time as they came, in plane order. One pass is one read of the volume.

        A block is overwritten when the next one is asked for.
        """
        return self._blocks(Room())

    def _blocks(self, room: Room | None) -> Iterator[NDArray[np.generic]]:
        for place in places(self.data):
            block = loaded(self.data[place], room)
            progress.advance(len(block))
            yield block
            del block  # before the next is read

    def each_plane(
        self,
        function: Callable[..., Result],
        *beside: OfPlanes,
        only: NDArray[np.bool_] | None = None,
        any_dtype: bool = False,
    ) -> Iterator[Result]:
        """Results of `function(number, plane, *beside)` in plane order, of all planes or of some, side by side.

        Planes are in float32, or as they came where `any_dtype` says so, after all transfers; of what is `beside` the
        function gets what belongs to the plane. It may neither write into a plane nor keep it. Where a cluster
        computes, its workers call the function. One pass is one read of the volume.
        """
        look = Look(function, self.transfers, self._axes(), any_dtype)
        like, shape = memory_of(self.data), self.data.shape[-2:]
        there = [Alike(one, like) for one in beside]
        if self.data.chunks is None:
            return side_by_side(look.at, chain.from_iterable(self._jobs_with_planes(there, only)), like, shape)
        from xoctnorm.cluster import client_of, looked_at_by_workers

        cluster = client_of(self.data.data)
        if cluster is not None:
            jobs = (self._jobs(place, beside, only) for place in places(self.data))
            return looked_at_by_workers(cluster, look, self.data, jobs)
        # One run of planes after the other: the next is read into the memory of the one before.
        runs = self._jobs_with_planes(there, only)
        return chain.from_iterable(side_by_side(look.at, jobs, like, shape) for jobs in runs)

    def folded(self, function: Callable[..., Result], state: Fold[Result, Left], *beside: OfPlanes) -> Iterator[Left]:
        """What a state leaves of the results of a function, see `each_plane`, that it takes plane after plane.

        Where a cluster computes, the state goes from worker to worker, so that results may be large.
        """
        if self.data.chunks is not None:
            from xoctnorm.cluster import client_of, folded_by_workers

            cluster = client_of(self.data.data)
            if cluster is not None:
                look = Look(function, self.transfers, self._axes())
                jobs = (self._jobs(place, beside) for place in places(self.data))
                return folded_by_workers(cluster, look, self.data, jobs, state)
        return (state.add(number, found) for number, found in enumerate(self.each_plane(function, *beside)))

    def _jobs_with_planes(
        self, beside: Sequence[OfPlanes] = (), only: NDArray[np.bool_] | None = None
    ) -> Iterator[Iterator[tuple[Job, NDArray[np.generic]]]]:
        """What there is to do with the planes of one run after the other."""
        wanted = None if only is None else only.reshape(self.data.shape[:-2])
        room = Room()
        for place in places(self.data, wanted):
            yield self._jobs_of_run(place, beside, only, room)

    def _jobs_of_run(
        self, place: Place, beside: Sequence[OfPlanes], only: NDArray[np.bool_] | None, room: Room
    ) -> Iterator[tuple[Job, NDArray[np.generic]]]:
        block = loaded(self.data[place], room)
        progress.advance(len(block))
        yield from ((job, block[job.at]) for job in self._jobs(place, beside, only))

    def _jobs(
        self, place: Place, beside: Sequence[OfPlanes] = (), only: NDArray[np.bool_] | None = None
    ) -> Iterator[Job]:
        """What there is to do with the planes of a run."""
        numbers = np.arange(np.prod(self.data.shape[:-2])).reshape(self.data.shape[:-2])
        parameters = [values[place] for values in self._laid_out()]
        for at, number in enumerate(numbers[place].tolist()):
            if only is None or only[number]:
                yield Job(at, number, [p[at] for p in parameters], [one.of_plane(number) for one in beside])

    def correct(
        self, dtype: np.dtype[np.generic], see: Callable[[NDArray[np.generic]], None] | None = None
    ) -> xr.Variable:
        """All planes after all transfers, lazily where the volume is chunked; otherwise `see` sees each as it came."""
        like = memory_of(self.data)
        correct = partial(correct_block, transfers=self.transfers, axes=self._axes(), dtype=dtype)
        if self.data.chunks is not None:
            parameters = [p for t in self.transfers for p in t.parameters]
            result: xr.Variable = xr.apply_ufunc(
                correct,
                self.data,
                *parameters,
                input_core_dims=[[], *(self._own_dims(p) for p in parameters)],
                dask="parallelized",
                dask_gufunc_kwargs={"meta": namespace(like).empty((0,) * self.data.ndim, dtype=dtype)},
            )
            return result
        out = namespace(like).empty(self.data.shape, dtype=dtype)
        planes = out.reshape(-1, *out.shape[-2:])
        axes = self._axes()

        def of_plane(job_and_plane: tuple[Job, NDArray[np.generic]]) -> NDArray[np.generic]:
            job, plane = job_and_plane
            through(self.transfers, plane, job.parameters, axes, planes[job.number])
            return plane

        for plane in side_by_side(of_plane, chain.from_iterable(self._jobs_with_planes()), like, planes.shape[1:]):
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

    def _axes(self) -> list[Axes]:
        """Axes of the parameters of all transfers."""
        parameters = (p for transfer in self.transfers for p in transfer.parameters)
        return [
            Axes(tuple(slice(None) if dim in p.dims else 0 for dim in self.data.dims[-2:]), len(self._own_dims(p)))
            for p in parameters
        ]


PlanesT = TypeVar("PlanesT", bound=Planes)


class Alike:
    """What is beside planes, in the memory where these are: an array that planes share goes there once."""

    def __init__(self, one: OfPlanes, like: Any) -> None:
        self._one, self._like = one, like
        self._given: Any = None
        self._there: Any = None

    def of_plane(self, number: int) -> NDArray[np.generic]:
        """What belongs to a plane."""
        given = self._one.of_plane(number)
        if self._given is None or not _same(given, self._given):
            self._given, self._there = given, alike(given, self._like)
        there: NDArray[np.generic] = self._there
        return there


def _same(one: Any, other: Any) -> bool:
    """Whether two arrays are views of the same values."""
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return one is other
    return one.__array_interface__ == other.__array_interface__


class PlaneMasks:
    """Masks that users gave: `(y, x)`, or one for every plane, which are read block after block as they are asked for.

    Planes are asked for in their order.
    """

    def __init__(self, variable: xr.Variable) -> None:
        self._one = values_on_host(variable).astype(bool, copy=False) if variable.ndim == 2 else None
        self._planes = enumerate(Planes(variable).raw_planes() if variable.ndim > 2 else ())

    def of_plane(self, number: int) -> NDArray[np.bool_]:
        """Mask of a plane."""
        if self._one is not None:
            return self._one
        return next(mask.astype(bool, copy=False) for at, mask in self._planes if at == number)


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
    ends
        Where a percentile of every plane lies, if a later correction wants to know, and none before it changes the
        order of the values of a plane.
    means
        Means over tissue, if a later correction wants to know, and the one before it can tell.
    section_percentiles
        Percentiles of sections, if a later correction wants to know, and the one before it can tell.
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
    ends: PlaneEnds | None = None
    means: TissueMeans | None = None
    section_percentiles: SectionPercentiles | None = None

    def samples(self) -> Iterator[Plane]:
        """Some values of every plane after all transfers: those that the first read took."""
        return self._without_place(self.survey.samples)

    def percentiles(self) -> NDArray[np.float32] | None:
        """The percentile of every plane that is wanted, where a read has found it; later transfers keep the order.

        A voxel that became 0 since, as one at the noise floor, still counts.
        """
        ends = self.ends
        if ends is None or ends.found is None:
            return None
        later = replace(self, transfers=self.transfers[ends.n_transfers :])
        pairs = later._without_place([np.array([low, high], np.float32) for low, high, _ in ends.found])
        ends_of_planes = zip(pairs, ends.found, strict=True)
        return np.array([between(low, high, one.share) for (low, high), one in ends_of_planes], np.float32)

    def _without_place(self, of_planes: Iterable[NDArray[np.generic]]) -> Iterator[Plane]:
        """Values of every plane that have no place in it, after all transfers: these may not vary over y and x."""
        axes = self._axes()
        assert not any(isinstance(at, slice) for one in axes for at in one.across)
        laid_out = [p.reshape(-1, *p.shape[self.data.ndim - 2 :]) for p in self._laid_out()]
        for number, values in enumerate(of_planes):
            some = namespace(values).empty((1, values.size), dtype=np.float32)
            through(self.transfers, values[None], [p[number] for p in laid_out], axes, some)
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
