"""Floor and cap of a plane, and their removal."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, to_host
from xoctnorm.kernels.steps import CLIP, CUT, DIVIDE, MULTIPLY, SUBTRACT, Step, take
from xoctnorm.kernels.strips import in_place

Plane = NDArray[np.float32]
Number = float | np.floating


def present(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values that are not NaN; the array itself, without a copy, where there are none."""
    missing = values != values
    return values[~missing] if to_host(missing.any()) else values


def percentile(values: Plane, q: float) -> np.float32:
    """Percentile `q` (0 to 100) of the present values, linearly interpolated; NaN of nothing.

    The bits are those of NumPy 2.4 with every version; earlier ones interpolate between float32 values otherwise.
    """
    values = present(values).reshape(-1)
    if values.size == 0:
        return np.float32(np.nan)
    position = float(q) / 100 * (values.size - 1)
    below = int(position)
    above = min(below + 1, values.size - 1)
    low, high = np.partition(values, (below, above))[[below, above]]
    return between(low, high, position - below)


def between(low: np.float32, high: np.float32, share: float) -> np.float32:
    """Interpolate in float32 and from the nearer of two values, as NumPy 2.4 does."""
    with np.errstate(invalid="ignore"):  # between infinities there is NaN
        step = high - low
        return np.float32(low + step * share if share < 0.5 else high - step * (1 - share))


def remove_background(plane: Plane, floor: Number, cap: Number, divisor: Number) -> Plane:
    """Clip a plane to floor and cap, subtract the floor and divide, in place.

    An unknown floor (NaN) is not subtracted: such a plane is capped at its cap and cut off at 0.
    """
    take(background_steps(floor, cap, divisor), plane, plane)
    return plane


def background_steps(floor: Number, cap: Number, divisor: Number) -> list[Step]:
    """Steps of `remove_background`."""
    return [Step(CUT, (0.0 if np.isnan(floor) else float(floor), float(cap))), Step(DIVIDE, (float(divisor), 0.0))]


def multiply(plane: Plane, factor: Number) -> Plane:
    """Multiply a plane by one factor, in place."""
    plane *= np.float32(factor)
    return plane


def factor_steps(factor: Number) -> list[Step]:
    """Steps of `multiply`."""
    return [Step(MULTIPLY, (float(factor), 0.0))]


def multiply_where(plane: Plane, where: NDArray[np.bool_], factor: Number, out: Plane) -> None:
    """Multiply a plane by one factor at `where`, into another contiguous plane."""
    kernels = kernels_for(plane)
    kernels.multiply_where(kernels.frozen(plane), kernels.frozen(where), float(factor), in_place(out))


def clip_to_unit(plane: Plane) -> Plane:
    """Clip a plane to 0…1, in place."""
    take(clip_steps(), plane, plane)
    return plane


def clip_steps() -> list[Step]:
    """Steps of `clip_to_unit`."""
    return [Step(CLIP)]


def subtract_and_divide(plane: Plane, zero: Number, divisor: Number) -> Plane:
    """Subtract one level and divide, in place; what is exactly 0 is empty and stays so."""
    take(unit_steps(zero, divisor), plane, plane)
    return plane


def unit_steps(zero: Number, divisor: Number) -> list[Step]:
    """Steps of `subtract_and_divide`."""
    return [Step(SUBTRACT, (float(zero), 0.0)), Step(DIVIDE, (float(divisor), 0.0))]


def subtract_and_multiply(plane: Plane, floor: Number, *factors: Number) -> Plane:
    """Subtract the noise floor and multiply by all factors, in place; what is exactly 0 is empty and stays so."""
    take(drift_steps(floor, *factors), plane, plane)
    return plane


def drift_steps(floor: Number, *factors: Number) -> list[Step]:
    """Steps of `subtract_and_multiply`."""
    return [Step(SUBTRACT, (float(floor), 0.0)), Step(MULTIPLY, (math.prod(float(factor) for factor in factors), 0.0))]
