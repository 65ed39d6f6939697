"""Equations of the drift model beside its observations, and the factor of its normal equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import scipy
from numpy.typing import NDArray

Series = NDArray[np.float64]
Index = NDArray[np.int64]

_MOST_DENSE = 400  # unknowns; with more, most sections share no equation, and zeros are worth leaving out


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

    def weighed(self, weight: Series) -> scipy.sparse.csr_array:
        """Equations times a weight each."""
        rows = self.rows
        values = rows.data * np.repeat(weight, np.diff(rows.indptr))
        return scipy.sparse.csr_array((values, rows.indices, rows.indptr), shape=rows.shape)


def rows_of(width: int, columns: Index, values: Series) -> scipy.sparse.csr_array:
    """Rows with values at some columns."""
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    return scipy.sparse.csr_array((values.ravel(), (rows, columns.ravel())), shape=(len(columns), width))


def differences(width: int, start: int, length: int, weights: tuple[float, ...]) -> scipy.sparse.csr_array:
    """Differences of a run of unknowns."""
    count = max(length - len(weights) + 1, 0)
    columns = start + np.arange(count)[:, None] + np.arange(len(weights))
    return rows_of(width, columns, np.tile(np.array(weights), (count, 1)))


def normal_equations(
    design: scipy.sparse.csr_array, weight: Series, target: Series, priors: Priors, prior_weight: Series
) -> tuple[Series | scipy.sparse.csr_array, Series]:
    """Both sides of the normal equations; dense, in the lower triangle alone, where there are few unknowns.

    Rows of the design belong to planes in turn, whose observations have the `weight` `(plane, slot, slot)` and the
    `target` `(plane, slot)`.
    """
    if design.shape[1] <= _MOST_DENSE:
        from xoctnorm.kernels import compiled_drift

        normal, right = np.zeros((design.shape[1],) * 2), np.zeros(design.shape[1])
        compiled_drift.add_blocks(design.indptr, design.indices, design.data, weight, target, normal, right)
        rows = priors.rows
        compiled_drift.add_rows(rows.indptr, rows.indices, rows.data, prior_weight, normal)
        return normal, right
    blocks = scipy.sparse.bsr_array((weight, np.arange(len(weight)), np.arange(len(weight) + 1)))
    weighted, weighed = blocks @ design, priors.weighed(prior_weight)
    return scipy.sparse.csr_array(design.T @ weighted + weighed.T @ weighed), weighted.T @ target.ravel()


def product(rows: scipy.sparse.csr_array, vector: Series) -> Series:
    """Sparse rows times a vector."""
    from xoctnorm.kernels import compiled_drift

    found = np.empty(rows.shape[0])
    compiled_drift.times(rows.indptr, rows.indices, rows.data, vector, found)
    return found


@dataclass(frozen=True)
class Factor:
    """Factor of symmetric positive definite normal equations.

    Attributes
    ----------
    solve
        Solves the equations for a right-hand side, or for the columns of one.
    log_det
        Log determinant.
    """

    solve: Callable[[Series], Series]
    log_det: float

    @classmethod
    def of(cls, normal: Series | scipy.sparse.csr_array) -> Factor:
        """Factor equations, scaled to a diagonal of 1; of dense ones, the lower triangle is looked at."""
        scale = 1 / np.sqrt(normal.diagonal())
        size = len(scale)
        ridge, log_scale = 1e-13, 2 * float(np.log(scale).sum())
        if isinstance(normal, np.ndarray):
            from xoctnorm.kernels import compiled_drift

            # LAPACK itself: around it, SciPy's functions take as long as the factor of a small matrix.
            lower = np.zeros((size, size), order="F")
            compiled_drift.scale_lower(normal, scale, ridge, lower)
            lower, failed = scipy.linalg.lapack.dpotrf(lower, lower=1, clean=0, overwrite_a=1)
            if failed:
                raise np.linalg.LinAlgError("normal equations are not positive definite")
            log_det = 2 * float(np.log(np.diag(lower)).sum())

            def solve_scaled(right: Series) -> Series:
                solved: Series = scipy.linalg.lapack.dpotrs(lower, right, lower=1)[0]
                return solved

        else:
            from scipy.sparse.linalg import splu

            coordinates = normal.tocoo()
            row, column = coordinates.coords
            values = coordinates.data * (scale[row] * scale[column])
            scaled = scipy.sparse.csc_array((values, (row, column)), shape=(size, size))
            # Pivots on the diagonal keep it symmetric, as Cholesky's.
            factor = splu(
                scaled + ridge * scipy.sparse.eye_array(size, format="csc"),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            log_det = float(np.log(np.abs(factor.U.diagonal())).sum())
            solve_scaled = partial(factor.solve)

        def solve(right: Series) -> Series:
            by_row = scale.reshape(-1, *[1] * (right.ndim - 1))
            solved: Series = by_row * solve_scaled(by_row * right)
            return solved

        return cls(solve, log_det - log_scale)
