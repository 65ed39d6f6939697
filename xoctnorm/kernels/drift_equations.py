"""Equations of the drift model beside its observations, and the factor of its normal equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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

    def weighed(self, deviation: dict[str, float], left_out: NDArray[np.bool_]) -> scipy.sparse.csr_array:
        """Equations in units of the standard deviation of their group, without some."""
        weight = np.zeros(len(self.group))
        for name, sd in deviation.items():
            weight[self.group == name] = 1 / sd
        weight[left_out] = 0
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
    def of(cls, normal: scipy.sparse.csr_array) -> Factor:
        """Factor equations, scaled to a diagonal of 1."""
        scale = 1 / np.sqrt(normal.diagonal())
        coordinates = normal.tocoo()
        row, column = coordinates.coords
        values = coordinates.data * (scale[row] * scale[column])
        size = len(scale)
        ridge, log_scale = 1e-13, 2 * float(np.log(scale).sum())
        if size <= _MOST_DENSE:
            dense = np.zeros((size, size))
            dense[row, column] = values
            dense[np.diag_indices(size)] += ridge
            lower = scipy.linalg.cho_factor(dense, lower=True, check_finite=False)
            log_det = 2 * float(np.log(np.diag(lower[0])).sum())

            solve_scaled: Callable[[Series], Series] = partial(scipy.linalg.cho_solve, lower, check_finite=False)

        else:
            from scipy.sparse.linalg import splu

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
