"""What corrections do to planes: all of them to one strip of rows while it is in the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, namespace, parts_of
from xoctnorm.kernels.steps import INTERPOLATE, Step, take, taken_as_it_is
from xoctnorm.kernels.strips import single

Plane = NDArray[np.float32]

Found = TypeVar("Found", contravariant=True)
Left = TypeVar("Left", covariant=True)

_own = threading.local()  # of every thread: the plane that it works on


@dataclass(frozen=True)
class Transfer:
    """What one correction does to a plane: a function of the plane and of the plane's parameters.

    The function may write into the plane that it is given. The parameters are small Variables with dims that number
    planes, y and x, to which they are broadcast, and dims of their own, which come whole. The function gets of each
    what belongs to the plane, or to the part of a plane, that it is given: a number, or an array with the rest of the
    dims in the order y, x, its own.

    Where every voxel of a plane changes alike, `steps` names from the same numbers what happens: planes then take the
    steps of several corrections at once.
    """

    function: Callable[..., Plane]
    parameters: tuple[xr.Variable, ...] = ()
    steps: Callable[..., Sequence[Step]] | None = None


class Axes(NamedTuple):
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


def correct_block(
    block: NDArray[np.generic],
    *parameters: NDArray[np.generic],
    transfers: tuple[Transfer, ...],
    axes: Sequence[Axes],
    dtype: np.dtype[np.generic],
) -> NDArray[np.generic]:
    """Correct planes, or parts of planes."""
    laid_out = [one.laid_out(values, block.shape) for one, values in zip(axes, parameters, strict=True)]
    out: NDArray[np.generic] = namespace(block).empty(block.shape, dtype=dtype)
    for plane in np.ndindex(block.shape[:-2]):
        through(transfers, block[plane], [p[plane] for p in laid_out], axes, out[plane])
    return out


def through(
    transfers: tuple[Transfer, ...],
    plane: NDArray[np.generic],
    parameters: Sequence[NDArray[np.generic]],
    axes: Sequence[Axes],
    out: NDArray[Any],
) -> None:
    """Correct a plane into `out`: all transfers of one strip happen while it is in the cache, or of one block."""
    steps = _steps(transfers, parameters, axes)
    if steps is not None and taken_as_it_is(plane) and out.dtype == np.float32:
        take(steps, plane, out)
        return
    for rows in parts_of(plane):
        strip = out[rows] if out.dtype == np.float32 else namespace(out).empty(out[rows].shape, dtype=np.float32)
        strip[...] = plane[rows]
        corrected = strip
        if steps is not None:
            take(steps, strip, strip)
        else:
            rest = iter(zip(parameters, axes, strict=True))
            for transfer in transfers:
                of_strip = [one.of_strip(values, rows) for values, one in islice(rest, len(transfer.parameters))]
                corrected = transfer.function(corrected, *of_strip)
        if corrected is not strip or out.dtype != np.float32:
            out[rows] = corrected


def _steps(
    transfers: tuple[Transfer, ...], parameters: Sequence[NDArray[np.generic]], axes: Sequence[Axes]
) -> list[Step] | None:
    """Steps of all transfers of a plane; None where one has none, or does not do the same to all voxels."""
    if any(one.n_own or slice(None) in one.across for one in axes):
        return None
    steps: list[Step] = []
    numbers = (values[one.across] for values, one in zip(parameters, axes, strict=True))
    for transfer in transfers:
        if transfer.steps is None:
            return None
        steps += transfer.steps(*islice(numbers, len(transfer.parameters)))
    return steps if sum(step.kind == INTERPOLATE for step in steps) <= 1 else None


@dataclass(frozen=True)
class Look:
    """A look at planes after all transfers, which threads and workers of a cluster can take.

    Attributes
    ----------
    function
        Called with the number of a plane, the plane in float32, and what else belongs to it. It may neither write into
        the plane, which may be the user's, nor keep it, since it is overwritten when the function returns.
    transfers, axes
        What happens before.
    any_dtype
        Whether it takes planes of any dtype, where nothing happens before.
    """

    function: Callable[..., Any]
    transfers: tuple[Transfer, ...]
    axes: Sequence[Axes]
    any_dtype: bool = False

    def at(self, job_and_plane: tuple[Job, NDArray[np.generic]]) -> Any:
        """What the function finds in a plane, of which the values are given as they came."""
        job, plane = job_and_plane
        beside = [alike(values, plane) for values in job.beside]
        if not self.transfers:
            return self.function(job.number, plane if self.any_dtype else single(plane), *beside)
        kind = type(plane), plane.shape
        if getattr(_own, "kind", None) != kind:
            _own.plane, _own.kind = namespace(plane).empty(plane.shape, dtype=np.float32), kind
        through(self.transfers, plane, job.parameters, self.axes, _own.plane)
        return self.function(job.number, _own.plane, *beside)


class Fold(Protocol[Found, Left]):
    """Something that takes what is found in plane after plane."""

    def add(self, number: int, found: Found, /) -> Left:
        """Take what was found in a plane; returns what is left of that."""


class Job(NamedTuple):
    """What is to be done with one plane.

    Attributes
    ----------
    at
        Its place in the run of planes that is read at once.
    number
        Its number in the volume.
    parameters
        What the transfers need to know of it.
    beside
        What else belongs to it.
    """

    at: int
    number: int
    parameters: list[Any]
    beside: list[Any]
