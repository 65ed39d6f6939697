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
        self._n_planes, self._shape = n_planes, (VIEWS, *shape)
        self._sums: Any = None  # of one section, where its planes are
        self._counts: Any = None
        self._section = -1
        self._finished: list[Image] = []

    def add(self, plane: NDArray[np.float32], section: int, number: int, cap: float | None = None) -> None:
        """Add plane `number` of a section, counted from 0; `cap` is `view_cap` of the plane, where that is known.

        Sections never go down.
        """
        xp, kernels = namespace(plane), kernels_for(plane)
        if section != self._section:
            self._begin(section)
            self._sums = xp.zeros(self._shape, dtype=np.float32)
            self._counts = xp.zeros(self._shape, dtype=np.uint16)
        n = int(self._n_planes[section])
        few = end_planes(n)
        starts = np.rint(np.linspace(0, n - few, VIEWS))
        views = np.flatnonzero((starts <= number) & (number < starts + few))
        if views.size:
            cap = view_cap(plane) if cap is None else cap
        for view in views:
            kernels.add_capped(kernels.frozen(plane), cap, self._sums[view].reshape(-1), self._counts[view].reshape(-1))
        if number == n - 1:
            self._finish()

    def taken(self) -> list[Image]:
        """Means `(view, y, x)` of the sections that are complete, on the host, which are then forgotten."""
        finished, self._finished = self._finished, []
        return finished

    def means(self) -> Image:
        """Means `(section, view, y, x)` of all sections that were not taken, on the host; NaN without data."""
        self._begin(len(self._n_planes))
        return np.stack(self.taken())

    def _begin(self, section: int) -> None:
        self._finish()
        self._finished += [np.full(self._shape, np.float32(np.nan))] * (section - self._section - 1)
        self._section = section

    def _finish(self) -> None:
        if self._sums is not None:
            with np.errstate(invalid="ignore"):
                self._sums /= self._counts
            self._finished.append(to_host(self._sums))
            self._sums = self._counts = None


def view_cap(plane: NDArray[np.float32]) -> float:
    """What single voxels of a plane are cut down to, 20 times its median; NaN without data."""
    has = namespace(plane).isfinite(plane) & (plane != 0)
    return 20 * abs(median(plane if to_host(has.all()) else plane[has]))
