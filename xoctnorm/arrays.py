"""Plain arrays of planes `(z, y, x)`: what is wrong with them, and loops over their planes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xoctnorm.kernels.backend import alike, as_array, namespace, on_host, parts_of, side_by_side, to_host
from xoctnorm.kernels.steps import Step, take
from xoctnorm.kernels.strips import single

Item = TypeVar("Item")
Result = TypeVar("Result")


def checked(vol: ArrayLike) -> tuple[NDArray[np.floating], list[str]]:
    """The volume as an array, and what is wrong with it."""
    array = as_array(vol)
    problems = []
    if array.ndim != 3:
        problems.append(f"vol has shape {array.shape}: three axes (z, y, x) are needed")
    elif array.size == 0:
        problems.append(f"vol is empty: its shape is {array.shape}")
    if array.dtype.kind not in "iuf":
        problems.append(f"vol has dtype {array.dtype}: integers and floats are accepted")
    return array, problems


def checked_mask(
    name: str, mask: ArrayLike, planes: NDArray[np.floating], shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], list[str]]:
    """The mask as an array where the planes are, and what is wrong with it."""
    array = alike(as_array(mask), planes)
    problems = []
    if array.dtype != bool:
        problems.append(f"{name} has dtype {array.dtype}: bool is accepted; compare first, for instance mask > 0")
    if array.shape != shape:
        problems.append(f"{name} has shape {array.shape}: {shape} is needed")
    return array, problems


def each(
    function: Callable[[Item], Result], items: Iterable[Item], planes: NDArray[np.floating], *, like: Any = None
) -> Iterator[Result]:
    """Results of a function in the order of the items, side by side where planes are large enough.

    They have to do with planes in memory like an array; without that, with planes where these are.
    """
    return side_by_side(function, items, planes if like is None else like, planes.shape[1:])


def by_steps(
    planes: NDArray[np.floating], steps: Callable[[int], list[Step]], there: Callable[[Any], Any] = lambda plane: plane
) -> NDArray[np.float32]:
    """The result of the steps of every plane; `there` brings a plane to where they are taken."""
    out: NDArray[np.float32] = namespace(planes).empty(planes.shape, dtype=np.float32)

    def of_plane(z: int) -> None:
        plane = there(planes[z])
        if on_host(plane) == on_host(out):
            take(steps(z), plane, out[z])
            return
        changed = single(plane)
        take(steps(z), changed, changed)
        out[z] = to_host(changed)

    for _ in each(of_plane, range(len(planes)), planes, like=there(planes[:0])):
        pass
    return out


def by_strips(
    planes: NDArray[np.floating], correct: Callable[[int, slice, NDArray[np.float32], NDArray[np.float32]], None]
) -> NDArray[np.float32]:
    """The result of `correct(z, rows, strip, out)`, which corrects some rows of a plane, in float32, into `out`."""
    out: NDArray[np.float32] = namespace(planes).empty(planes.shape, dtype=np.float32)

    def of_plane(z: int) -> None:
        for rows in parts_of(planes[z]):
            correct(z, rows, single(planes[z, rows]), out[z, rows])

    for _ in each(of_plane, range(len(planes)), planes):
        pass
    return out
