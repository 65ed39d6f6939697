"""Which library works on an array: the one place that asks where an array is.

Arrays of NumPy are on the host: loops that Numba compiles take strips of rows, which stay in the cache, and planes are
taken side by side in threads. Any other array, as one of CuPy, is on a device: the same kernels, written for any
library in modules named `generic`, take whole planes, one after the other, since a device works on the pixels of one
side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.strips import strips
from xoctnorm.threads import in_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

NDIMAGE = {"numpy": "scipy.ndimage", "cupy": "cupyx.scipy.ndimage"}
_SMALL_PLANE = 2**16  # pixels, up to which two threads take up to twice as long as one
_GENERIC = {  # where counterparts of compiled loops are, if not in `generic`
    "compiled_gaussian": "generic_regions",
    "compiled_images": "generic_regions",
    "compiled_quality": "generic_quality",
    "compiled_regions": "generic_regions",
}


def on_host(array: Any) -> bool:
    """Whether an array, or a number, is one of NumPy."""
    return isinstance(array, np.ndarray | np.generic)


def namespace(array: Any) -> Any:
    """Functions of the library that an array belongs to, with the names of the array API standard and of NumPy."""
    if on_host(array):
        return np
    from array_api_compat import array_namespace

    return array_namespace(array)


def kernels_for(array: Any, compiled: str = "compiled") -> Any:
    """Kernels of a module that Numba compiles, or those with the same names for arrays of any library."""
    return _module(compiled if on_host(array) else _GENERIC.get(compiled, "generic"))


def ndimage_of(array: Any) -> Any:
    """Functions on images, of SciPy's names, of the library that an array belongs to."""
    return import_module(NDIMAGE[type(array).__module__.partition(".")[0]])


@cache
def _module(name: str) -> Any:
    return import_module(f"xoctnorm.kernels.{name}")  # which takes long, where nothing is to be imported too


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], like: Any, shape: tuple[int, ...]
) -> Iterator[Result]:
    """Results of a function in the order of the items, which have to do with planes of a shape, in arrays like one.

    Small planes are taken one after the other: threads would wait for each other longer than they work.
    """
    small = math.prod(shape) <= _SMALL_PLANE
    return in_threads(function, items) if on_host(like) and not small else map(function, items)


def parts_of(plane: Any) -> Iterator[slice]:
    """Rows of a plane that are worked on together."""
    return strips(plane.shape) if on_host(plane) else iter([slice(0, plane.shape[0])])


def to_host(values: Any) -> NDArray[Any]:
    """Statistics in the memory of the host: nothing else takes values from a device, but for volumes to be written."""
    if on_host(values):
        return np.asarray(values)
    from array_api_compat import to_device

    return np.asarray(to_device(values, "cpu"))


def numbers(*values: Any) -> NDArray[Any]:
    """Numbers of one dtype that a device has found, all at once."""
    return np.array(values) if on_host(values[0]) else to_host(namespace(values[0]).stack(values))


def concatenated(arrays: Sequence[Any]) -> Any:
    """Arrays of one library one after the other."""
    return namespace(arrays[0]).concatenate(arrays)


def alike(values: Any, like: Any) -> Any:
    """Small tables, or masks, in the memory of another array; they themselves where they are there."""
    if on_host(like):
        return to_host(values)
    return namespace(like).asarray(values) if on_host(values) else values


def as_array(values: Any) -> Any:
    """An array in the memory where it is, of chunks, or of labelled values; one of NumPy for what is no array."""
    if on_host(values):
        return np.asarray(values)
    if hasattr(values, "__dask_graph__"):
        values = values.compute()
    if hasattr(values, "dims"):  # labelled
        values = values.data
    return values if hasattr(values, "__array_function__") else np.asarray(values)
