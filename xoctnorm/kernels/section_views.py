"""Means of some planes at several depths of every section, from which classes of pixels are told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, namespace, to_host
from xoctnorm.kernels.order_statistics import median

Image = NDArray[np.float32]

VIEWS = 5  # depths of a section at which classes are looked at

_END = 0.3  # share of a section whose planes, from the cut on, tell its classes


def end_planes(n_planes: int) -> int:
    """How many planes at an end of a section tell its classes there."""
    return max(1, round(_END * n_planes))


class SectionViews:
    """Means of some planes at five depths of every section, from its first to its last, taken plane after plane.

    Single voxels far above their plane (20 times its median) are cut down to that. NaN and 0 are no data.
    """

    def __init__(self, shape: tuple[int, int], n_planes: NDArray[np.int64]) -> None:
        self._n_planes = n_planes
        self._shape = (len(n_planes), VIEWS, *shape)
        self._sums: Any = None
        self._counts: Any = None  # of one section
        self._section = 0

    def add(self, plane: NDArray[np.float32], section: int, number: int, cap: float | None = None) -> None:
        """Add plane `number` of a section, counted from 0; `cap` is `view_cap` of the plane, where that is known.

        Sections never go down.
        """
        if section != self._section:
            self._finish()
            self._section = section
        n = int(self._n_planes[section])
        few = end_planes(n)
        starts = np.rint(np.linspace(0, n - few, VIEWS))
        views = (starts <= number) & (number < starts + few)
        if not views.any():
            return
        kernels = kernels_for(plane)
        self._begin(namespace(plane))
        cap = view_cap(plane) if cap is None else cap
        for view in np.flatnonzero(views):
            sums, counts = self._sums[section, view].reshape(-1), self._counts[view].reshape(-1)
            kernels.add_capped(kernels.frozen(plane), cap, sums, counts)

    def means(self) -> Image:
        """Means `(section, view, y, x)` on the host, once all planes are added; NaN without data."""
        self._begin(np)
        self._finish()
        return to_host(self._sums)

    def _begin(self, xp: Any) -> None:
        if self._sums is None:  # where the first plane is
            self._sums = xp.zeros(self._shape, dtype=np.float32)
            self._counts = xp.zeros(self._shape[1:], dtype=np.uint16)

    def _finish(self) -> None:
        if self._sums is not None:
            with np.errstate(invalid="ignore"):
                self._sums[self._section] /= self._counts
            self._counts[...] = 0


def view_cap(plane: NDArray[np.float32]) -> float:
    """What single voxels of a plane are cut down to, 20 times its median; NaN without data."""
    has = namespace(plane).isfinite(plane) & (plane != 0)
    return 20 * abs(median(plane if to_host(has.all()) else plane[has]))
