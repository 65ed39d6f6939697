"""Symmetric matrices with a band and a border, as of normal equations, and their factors.

Unknowns that share equations with near ones alone come first, those that share them with all last. A factor by Cholesky
then has zeros where the matrix has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Series = NDArray[np.float64]
Index = NDArray[np.int64]

_RIDGE = 1e-13


@dataclass(frozen=True)
class Bordered:
    """Lower triangle of a symmetric matrix.

    Attributes
    ----------
    entries
        All parts one after the other.
    n, n_first, width
        Unknowns, how many of them are not of the border, and how far apart two of these are that share an equation.
    """

    entries: Series
    n: int
    n_first: int
    width: int

    @classmethod
    def zeros(cls, n: int, n_first: int, width: int) -> Bordered:
        """All zeros."""
        n_border = n - n_first
        return cls(np.zeros(n_first * (width + 1 + n_border) + n_border**2), n, n_first, width)

    @property
    def band(self) -> Series:
        """Of the first unknowns, `(row, column - row + width)`, the diagonal last."""
        return self.entries[: self.n_first * (self.width + 1)].reshape(self.n_first, self.width + 1)

    @property
    def border(self) -> Series:
        """First unknowns by those of the border."""
        n_border = self.n - self.n_first
        start = self.n_first * (self.width + 1)
        return self.entries[start : start + self.n_first * n_border].reshape(self.n_first, n_border)

    @property
    def corner(self) -> Series:
        """Of the unknowns of the border alone, of which there are all where no others are."""
        n_border = self.n - self.n_first
        return self.entries[self.entries.size - n_border**2 :].reshape(n_border, n_border)

    def diagonal(self) -> Series:
        """The diagonal."""
        return np.concatenate([self.band[:, -1], self.corner.diagonal()])


@dataclass(frozen=True)
class Factor:
    """Lower factor of a positive definite matrix, scaled to a diagonal of 1.

    Attributes
    ----------
    scale
        Of rows and columns.
    band, border, corner
        Parts of the factor.
    log_det
        Log determinant of the matrix.
    """

    scale: Series
    band: Series
    border: Series
    corner: Series
    log_det: float

    @classmethod
    def of(cls, matrix: Bordered) -> Factor:
        """Factor a matrix, whose memory it takes for its own."""
        from xoctnorm.kernels import compiled_bordered as loops

        scale = 1 / np.sqrt(matrix.diagonal())
        band, border, corner = matrix.band, matrix.border, np.zeros_like(matrix.corner, order="F")
        loops.scale_parts(band, border, matrix.corner, scale, _RIDGE, corner)
        if not len(band):  # then nothing of the matrix need be kept
            band, border = band.copy(), border.copy()
        failed = not loops.factor_band(band)
        loops.divide_by_band(band, border)
        if len(border):
            corner = scipy.linalg.blas.dsyrk(-1.0, border.T, beta=1.0, c=corner, lower=1, overwrite_c=1)
        # LAPACK itself: around it, SciPy's functions take as long as the factor of a small matrix.
        corner, of_corner = scipy.linalg.lapack.dpotrf(corner, lower=1, clean=0, overwrite_a=1)
        if failed or of_corner:
            raise np.linalg.LinAlgError("normal equations are not positive definite")
        diagonal = np.concatenate([band[:, -1], corner.diagonal()])
        log_det = 2 * float(np.log(diagonal).sum())
        return cls(scale, band, border, corner, log_det - 2 * float(np.log(scale).sum()))

    def solve(self, right: Series) -> Series:
        """Solve the equations for a right-hand side."""
        from xoctnorm.kernels import compiled_bordered as loops

        first, last = np.split(self.scale * right, [len(self.band)])
        loops.divide_by_band(self.band, first[:, None])
        last = scipy.linalg.lapack.dpotrs(self.corner, last - first @ self.border, lower=1)[0]
        first -= self.border @ last
        loops.divide_by_transposed_band(self.band, first)
        solved: Series = self.scale * np.concatenate([first, last])
        return solved

    def inverse(self, asked: Index) -> Series:
        """The inverse matrix at some rows and columns."""
        from xoctnorm.kernels import compiled_bordered as loops

        n_first = len(self.band)
        (of_first,), (of_border,) = np.nonzero(asked < n_first), np.nonzero(asked >= n_first)
        first, last = np.zeros((n_first, of_first.size)), np.zeros((len(self.corner), asked.size), order="F")
        first[asked[of_first], np.arange(of_first.size)] = 1
        loops.divide_by_band(self.band, first)
        last[:, of_first] = -self.border.T @ first
        last[asked[of_border] - n_first, of_border] = 1
        last, _ = scipy.linalg.lapack.dtrtrs(self.corner, last, lower=1, overwrite_b=1)
        inverse: Series = last.T @ last
        inverse[np.ix_(of_first, of_first)] += first.T @ first
        inverse *= self.scale[asked, None] * self.scale[asked]
        return inverse
