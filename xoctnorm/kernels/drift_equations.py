"""Equations of the drift model beside its observations, and its normal equations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.bordered import Bordered

Series = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Priors:
    """Equations with the target 0, in groups that share a standard deviation.

    Attributes
    ----------
    rows
        All equations, each in units of 1.
    group
        Name of the group of every equation.
    """

    rows: scipy.sparse.csr_array
    group: NDArray[np.str_]

    @classmethod
    def of(cls, blocks: list[tuple[str, scipy.sparse.csr_array]]) -> Priors:
        """Stack the equations of groups, which have a name each."""
        names = np.array([name for name, _ in blocks])
        group = np.repeat(names, [block.shape[0] for _, block in blocks])
        return cls(scipy.sparse.csr_array(scipy.sparse.vstack([block for _, block in blocks])), group)

    def weights(self, deviation: dict[str, float], left_out: NDArray[np.bool_]) -> Series:
        """What brings equations to units of the standard deviation of their group; 0 leaves some out."""
        names, number = self._names
        weight: Series = np.array([1 / deviation[name] for name in names])[number]
        weight[left_out] = 0
        return weight

    @cached_property
    def _names(self) -> tuple[list[str], Index]:
        """Names of the groups, and the number of its group for every equation."""
        names, number = np.unique(self.group, return_inverse=True)
        return names.tolist(), number


def rows_of(width: int, columns: Index, values: Series) -> scipy.sparse.csr_array:
    """Rows with values at some columns."""
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    return scipy.sparse.csr_array((values.ravel(), (rows, columns.ravel())), shape=(len(columns), width))


def differences(width: int, start: int, length: int, weights: tuple[float, ...]) -> scipy.sparse.csr_array:
    """Differences of a run of unknowns."""
    count = max(length - len(weights) + 1, 0)
    columns = start + np.arange(count)[:, None] + np.arange(len(weights))
    return rows_of(width, columns, np.tile(np.array(weights), (count, 1)))


@dataclass(frozen=True)
class Equations:
    """Equations whose unknowns have the places that normal equations have for them, see `bordered`.

    Attributes
    ----------
    design
        Unknowns in the observations: rows for each slot of a plane, one plane after the other.
    priors
        Unknowns in the equations beside.
    place
        Place of every unknown: first come those that share equations with near ones alone.
    n_first
        How many these are.
    width
        How far apart two of them are at most that share an equation.
    """

    design: scipy.sparse.csr_array
    priors: scipy.sparse.csr_array
    place: Index
    n_first: int
    width: int

    @classmethod
    def of(
        cls,
        design: scipy.sparse.csr_array,
        n_slots: int,
        priors: scipy.sparse.csr_array,
        place: Index,
        n_first: int,
    ) -> Equations:
        """Equations at the places of their unknowns; the observations of a plane have errors in common."""
        design, priors = _placed(design, place), _placed(priors, place)
        return cls(design, priors, place, n_first, max(_width(design, n_slots, n_first), _width(priors, 1, n_first)))

    def normal(self, weight: Series, target: Series, prior_weight: Series) -> tuple[Bordered, Series]:
        """Both sides of the normal equations.

        Observations have the `weight` `(plane, slot, slot)` and the `target` `(plane, slot)`.
        """
        from xoctnorm.kernels import compiled_bordered

        design, priors, n = self.design, self.priors, len(self.place)
        normal, right = Bordered.zeros(n, self.n_first, self.width), np.zeros(n)
        shape, into = (self.n_first, self.width), normal.entries
        compiled_bordered.add_blocks(design.indptr, design.indices, design.data, weight, target, *shape, into, right)
        compiled_bordered.add_rows(priors.indptr, priors.indices, priors.data, prior_weight, n, *shape, into)
        return normal, right


def _placed(rows: scipy.sparse.csr_array, place: Index) -> scipy.sparse.csr_array:
    """Rows with their columns elsewhere, ascending."""
    indices = place[rows.indices].astype(rows.indices.dtype)
    placed = scipy.sparse.csr_array((rows.data.copy(), indices, rows.indptr), shape=rows.shape)
    placed.sort_indices()
    return placed


def _width(rows: scipy.sparse.csr_array, together: int, n_first: int) -> int:
    """How far apart the first columns are at most in so many rows together."""
    starts, first = rows.indptr[:-1:together], rows.indices < n_first
    if not first.any():
        return 0
    low = np.minimum.reduceat(np.where(first, rows.indices, n_first), starts)
    high = np.maximum.reduceat(np.where(first, rows.indices, -1), starts)
    return int(np.max(high - low, where=high >= 0, initial=0))


def product(rows: scipy.sparse.csr_array, vector: Series) -> Series:
    """Sparse rows times a vector."""
    from xoctnorm.kernels import compiled_drift

    found = np.empty(rows.shape[0])
    compiled_drift.times(rows.indptr, rows.indices, rows.data, vector, found)
    return found
