"""The model of drift: log intensity is gain of the section, depth profile of the class, anatomy, and jitter.

For plane `z` of section `s`, at depth `d` below the cut, and pixels of class `c` that belong to a set::

    log(mean − noise floor) = gain[s] + profile[c, d] + bend[s, d] + jitter[z]
                              + offset[set] + slope[c, s] · (position − cut) + bump[c, s, d] + error

A set of pixels is seen through its whole section and in the first half of the next: that is how gains are
compared across a cut, at equal depth, tissue against the same tissue. Anatomy drifts (slope), and pixels that are one
class at both cuts may be another between them (bump). All classes of a section, agarose too, share what its profile
has of its own (bend), as where the focus moved. Sets of agarose may be tied to one level. It is solved by generalized
least squares; jitter is a random effect that all sets of a plane share.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import SLOTS, ClassSums
from xoctnorm.kernels.classes import AGAROSE, TISSUES
from xoctnorm.kernels.drift_equations import Factor, Priors, differences, normal_equations, rows_of

Series = NDArray[np.float64]
Index = NDArray[np.int64]

_N_CLASSES = 3
_LEAST_ERROR = 2e-4  # of a log mean
_FIRM = 1e-5  # how firmly the mean of gains, and of profiles, is held at 0
_LOOSE = 1e3
_GAIN_WALK = 1.0  # gains of neighbouring sections differ by no more than a few such: it only bridges what nothing tells
_ODD_JITTER = 3.0
_KIND = np.array([kind for kind, _ in SLOTS])
_SET = np.array([relative for _, relative in SLOTS])


@dataclass(frozen=True)
class Spreads:
    """Standard deviations, in natural log, of what is random.

    Attributes
    ----------
    jitter
        Of planes.
    anatomy
        Of what a set of pixels changes by itself from plane to plane.
    agarose
        Of good agarose from section to section.
    slope, bump
        Of the drift of anatomy per plane, and of its swell between two cuts, of a class in a section.
    bend
        Of what the profile of a section has of its own, linear and quadratic in depth.
    profile
        Of third differences of the depth profile below the first plane.
    attenuation
        Of second differences of the log ratio of tissue to agarose there: attenuation is exponential.
    """

    jitter: float = 0.02
    anatomy: float = 0.002
    agarose: float = 0.002
    slope: float = 0.0007
    bump: float = 0.002
    bend: float = 0.002
    profile: float = 0.004
    attenuation: float = 0.001


@dataclass(frozen=True)
class Planes:
    """Where every plane is: section, depth below the cut and position through the tissue, both in planes."""

    section: Index
    depth: Index
    position: Series

    @cached_property
    def n_sections(self) -> int:
        """Number of sections."""
        return int(self.section.max()) + 1

    @cached_property
    def n_depths(self) -> int:
        """Number of depths."""
        return int(self.depth.max()) + 1

    @cached_property
    def through(self) -> Series:
        """Place of every plane in its section, −1 at its beginning and 1 at its end; 0 where it has fewer than 4."""
        first = np.searchsorted(self.section, self.section)
        number, size = np.arange(len(self.section)) - first, np.bincount(self.section)[self.section]
        return np.where(size < 4, 0.0, 2 * number / np.maximum(size - 1, 1) - 1)

    @cached_property
    def cut(self) -> Series:
        """Position of the cut after every section."""
        rows = np.arange(self.n_sections)
        first = np.array([self.position[self.section == s].min() for s in rows])
        last = np.array([self.position[self.section == s].max() for s in rows])
        cuts: Series = (last + np.append(first[1:], last[-1] + 1)) / 2
        return cuts

    @cached_property
    def start(self) -> dict[str, int]:
        """First of the unknowns of every kind, and their number."""
        n, sizes = self.n_sections, self.n_depths
        counts = {
            "gain": n,
            "profile": _N_CLASSES * sizes,
            "slope": 2 * n,
            "bump": 2 * n,
            "bend": 2 * n,
            "offset": _N_CLASSES * n,
            "medium": 1,
        }
        starts = np.cumsum([0, *counts.values()])
        return dict(zip([*counts, "end"], starts.tolist(), strict=True))

    @cached_property
    def prior_rows(self) -> Priors:
        """Equations that hold beside what is observed, those that tie agarose last."""
        at, n, n_depths = self.start, self.n_sections, self.n_depths
        width, depths = at["end"], np.arange(1, max(n_depths - 2, 1))[:, None] + np.arange(3)
        blocks = [("firm", rows_of(width, np.arange(n)[None], np.full((1, n), 1 / n)))]
        blocks.append(("walk", differences(width, at["gain"], n, (1.0, -1.0))))
        for kind in TISSUES:
            pairs = at["profile"] + np.concatenate([kind * n_depths + depths, AGAROSE * n_depths + depths], axis=1)
            second = np.array([1.0, -2.0, 1.0, -1.0, 2.0, -1.0])
            blocks.append(("attenuation", rows_of(width, pairs, np.tile(second, (len(pairs), 1)))))
        for kind in range(_N_CLASSES):
            start = at["profile"] + kind * n_depths
            mean = rows_of(width, start + np.arange(n_depths)[None], np.full((1, n_depths), 1 / n_depths))
            blocks.append(("firm", mean))
            blocks.append(("profile", differences(width, start + 1, n_depths - 1, (-1.0, 3.0, -3.0, 1.0))))
            blocks.append(("wide", differences(width, start, n_depths, (1.0,))))
        blocks += [(name, differences(width, at[name], 2 * n, (1.0,))) for name in ("slope", "bump", "bend")]
        blocks.append(("loose", differences(width, at["offset"], _N_CLASSES * n, (1.0,))))
        blocks.append(("loose", differences(width, at["medium"], 1, (1.0,))))
        pairs = np.stack([at["offset"] + AGAROSE * n + np.arange(n), np.full(n, at["medium"])], axis=1)
        blocks.append(("agarose", rows_of(width, pairs, np.tile([1.0, -1.0], (n, 1)))))
        return Priors.of(blocks)


@dataclass(frozen=True)
class Solution:
    """Estimates at one noise floor.

    Attributes
    ----------
    gain, gain_cov
        Log gain of sections, mean 0, and its covariance.
    profile, profile_cov
        Log depth profile `(class, depth)`, mean 0, and its covariance `(class, depth, depth)`.
    jitter, jitter_var
        Log jitter of planes, shrunk, and its error variance.
    bend
        What the profile of its section has of its own, of every plane.
    medium, medium_cov
        Log level of agarose of every section, NaN where there is none, and the covariance of those that are known.
    residual
        Of every observation, jitter taken off, `(plane, slot)`; NaN where there is none.
    chi2
        Reduced χ² of all observations.
    """

    gain: Series
    gain_cov: Series
    profile: Series
    profile_cov: Series
    jitter: Series
    jitter_var: Series
    bend: Series
    medium: Series
    medium_cov: Series
    residual: Series
    chi2: float


@dataclass(frozen=True)
class DriftModel:
    """Observations, and the equations that they obey.

    Attributes
    ----------
    sums
        What was observed.
    planes
        Where.
    doubt
        Factor on the standard error of every observation, `(plane, slot)`.
    odd
        Planes whose jitter may be anything: saturated, dim or damaged ones, which say nothing of their section.
    """

    sums: ClassSums
    planes: Planes
    doubt: Series = field(default_factory=lambda: np.ones(1))
    odd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1, bool))

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Where there are observations, `(plane, slot)`."""
        return np.isfinite(self.sums.mean)

    @cached_property
    def set_section(self) -> Index:
        """Section of the set behind every observation."""
        rows: Index = self.planes.section[:, None] + _SET
        return rows

    @cached_property
    def _design(self) -> scipy.sparse.csr_array:
        """Unknowns in every observation, a row each, slots of a plane after one another."""
        p, at = self.planes, self.planes.start
        n_z, n_slots = self.known.shape
        section = np.broadcast_to(p.section[:, None], self.known.shape)
        depth = np.broadcast_to(p.depth[:, None], self.known.shape)
        kind = np.broadcast_to(_KIND, self.known.shape)
        away = p.position[:, None] - p.cut[np.maximum(self.set_section, 0)]
        through = np.broadcast_to(p.through[:, None], self.known.shape)
        tissue, own = kind != AGAROSE, np.broadcast_to(_SET == 0, self.known.shape)
        tissue_row = np.where(tissue, kind - 1, 0) * p.n_sections + section
        columns = np.stack(
            [
                at["gain"] + section,
                at["profile"] + kind * p.n_depths + depth,
                at["offset"] + kind * p.n_sections + np.maximum(self.set_section, 0),
                at["slope"] + tissue_row,
                at["bump"] + tissue_row,
                at["bend"] + section,
                at["bend"] + p.n_sections + section,
            ],
            axis=-1,
        )
        one = np.ones(kind.shape)
        bump, bends = np.where(tissue & own, 1 - through**2, 0.0), _bends(through)
        values = np.stack([one, one, one, np.where(tissue, away, 0.0), bump, *bends], axis=-1)
        values[~self.known] = 0
        rows = np.repeat(np.arange(n_z * n_slots), values.shape[-1])
        return scipy.sparse.csr_array((values.ravel(), (rows, columns.ravel())), shape=(n_z * n_slots, at["end"]))

    def _prior_weights(self, spreads: Spreads, tied: NDArray[np.bool_]) -> Series:
        """What brings the equations that hold beside what is observed to units of their standard deviations."""
        deviation = {"firm": _FIRM, "walk": _GAIN_WALK, "wide": 100.0, "loose": _LOOSE}
        names = ("attenuation", "profile", "slope", "bump", "bend", "agarose")
        deviation |= {name: getattr(spreads, name) for name in names}
        left_out = np.zeros(len(self.planes.prior_rows.group), bool)
        left_out[-len(tied) :] = ~tied
        return self.planes.prior_rows.weights(deviation, left_out)

    def _covariance(self, spreads: Spreads, inflation: Series) -> Series:
        """Covariance of the observations of every plane, without jitter, `(plane, slot, slot)`."""
        sums, known = self.sums, self.known
        pixel = sums.variance[_KIND]
        c = np.zeros((*known.shape, known.shape[1]))
        slots = np.arange(known.shape[1])
        tissue = (_KIND != AGAROSE) * spreads.anatomy**2
        c[:, slots, slots] = pixel * inflation**2 / np.maximum(sums.count, 1) + tissue + _LEAST_ERROR**2
        for t in range(len(TISSUES)):
            own, before = 1 + t, 1 + len(TISSUES) + t
            shared = sums.common[:, t] / np.maximum(sums.count[:, own] * sums.count[:, before], 1)
            shared = np.minimum(shared, 1 / np.maximum(sums.count[:, [own, before]].max(axis=1), 1))
            both = shared * pixel[own] * inflation[:, own] * inflation[:, before] + spreads.anatomy**2
            c[:, own, before] = c[:, before, own] = np.where(known[:, own] & known[:, before], both, 0)
        # Doubt is an error of its own: scaled together, sets with common pixels would get absurd weights.
        c[:, slots, slots] *= np.broadcast_to(self.doubt, known.shape) ** 2
        c[:, slots, slots] = np.where(known, c[:, slots, slots], 1)
        return c

    def objective(self, floor: float | Series, spreads: Spreads, tied: NDArray[np.bool_]) -> float:
        """−2 log restricted likelihood at a noise floor, up to a constant."""
        return self._reduced(floor, spreads, tied).objective

    def solve(self, floor: float | Series, spreads: Spreads, tied: NDArray[np.bool_]) -> Solution:
        """Estimate everything at a noise floor, with the agarose of some sections tied to one level."""
        known, at = self.known, self.planes.start
        n, n_depths = self.planes.n_sections, self.planes.n_depths
        found = self._reduced(floor, spreads, tied)
        u, left = found.unknowns, np.where(known, found.left, 0)
        jitter, jitter_var, residual = _split_jitter(left, found.own, known, self._jitter_variance(spreads))
        has = np.isin(np.arange(n), self.planes.section[known[:, 0]])
        levels = at["offset"] + AGAROSE * n + np.flatnonzero(has)
        medium = np.full(n, np.nan)
        medium[has] = u[levels]
        profile = np.arange(at["profile"], at["profile"] + _N_CLASSES * n_depths).reshape(_N_CLASSES, n_depths)
        asked = np.concatenate([np.arange(n), profile.ravel(), levels])
        unit = np.zeros((len(u), asked.size))
        unit[asked, np.arange(asked.size)] = 1
        cov = found.factor.solve(unit)[asked]
        at_gain, at_profile, at_level = np.split(np.arange(asked.size), [n, n + profile.size])
        return Solution(
            gain=u[:n],
            gain_cov=cov[np.ix_(at_gain, at_gain)],
            profile=u[profile],
            profile_cov=np.stack([cov[np.ix_(rows, rows)] for rows in at_profile.reshape(profile.shape)]),
            jitter=jitter,
            jitter_var=jitter_var,
            bend=np.sum(
                u[at["bend"] + n * np.arange(2)[:, None] + self.planes.section] * _bends(self.planes.through), axis=0
            ),
            medium=medium,
            medium_cov=cov[np.ix_(at_level, at_level)],
            residual=residual,
            chi2=found.misfit / max(1, int(known.sum()) - (at["slope"] + 1)),
        )

    def _jitter_variance(self, spreads: Spreads) -> Series:
        """Of every plane."""
        odd = np.broadcast_to(self.odd, len(self.planes.section))
        return np.where(odd, _ODD_JITTER**2, spreads.jitter**2)

    def _reduced(self, floor: float | Series, spreads: Spreads, tied: NDArray[np.bool_]) -> _Reduced:
        """Normal equations, solved."""
        from xoctnorm.kernels import compiled_drift

        known, n = self.known, self.planes.n_sections
        mean = np.where(known, self.sums.mean, 1.0)
        signal = np.where(known, np.maximum(mean - np.reshape(floor, (-1, 1)), 1e-3 * mean), 1.0)
        y, inflation = np.log(signal), np.where(known, mean / signal, 1.0)
        own = self._covariance(spreads, inflation)
        weight, jitter = np.empty_like(own), self._jitter_variance(spreads)
        log_det = compiled_drift.invert_blocks(own, known, jitter, weight) - 2 * float(np.log(inflation[known]).sum())
        design, priors, prior_weight = self._design, self.planes.prior_rows, self._prior_weights(spreads, tied)
        normal, right = normal_equations(design, weight, y, priors, prior_weight)
        factor = Factor.of(normal)
        u = factor.solve(right)
        left = y - (design @ u).reshape(y.shape)
        misfit = float(
            np.sum(left * (weight @ left[..., None])[..., 0]) + np.sum((prior_weight * (priors.rows @ u)) ** 2)
        )
        log_det += factor.log_det
        # Deviations of priors that are themselves estimated belong into the likelihood.
        log_det += 2 * 2 * max(self.planes.n_depths - 3, 0) * float(np.log(spreads.attenuation))
        log_det += 4 * n * float(np.log(spreads.slope * spreads.bump * spreads.bend))
        log_det += 2 * int(tied.sum()) * float(np.log(spreads.agarose))
        return _Reduced(u, left, own, factor, misfit, misfit + log_det)

    def without_links(self, tied: NDArray[np.bool_]) -> DriftModel:
        """The same without what tissue tells across the cuts between sections whose agarose counts."""
        mean = self.sums.mean.copy()
        row = self.planes.section
        mean[np.ix_(tied[row] & tied[np.maximum(row - 1, 0)], _SET < 0)] = np.nan
        return replace(self, sums=replace(self.sums, mean=mean))

    def doubted(self, doubt: Series) -> DriftModel:
        """The same with other doubts."""
        return replace(self, doubt=doubt)


@dataclass(frozen=True)
class _Reduced:
    """Unknowns, residuals with jitter, covariance without it, and the factor of the normal equations."""

    unknowns: Series
    left: Series
    own: Series
    factor: Factor
    misfit: float
    objective: float


def _bends(through: Series) -> tuple[Series, Series]:
    """Linear and quadratic in depth."""
    return through, np.where(through == 0, 0.0, 1.5 * through**2 - 0.5)


def _split_jitter(left: Series, own: Series, known: NDArray[np.bool_], prior: Series) -> tuple[Series, Series, Series]:
    """Jitter of every plane, shrunk, its error variance, and what is left of the residuals without it."""
    has = known.astype(float)
    w = np.linalg.solve(own, has[..., None])[..., 0] * has
    total = w.sum(axis=1)
    seen = total > 0
    raw = np.divide((w * left).sum(axis=1), total, out=np.zeros(len(left)), where=seen)
    variance = np.divide(1.0, total, out=np.full(len(left), np.inf), where=seen)
    shrink = prior / (prior + variance)
    jitter = shrink * raw
    error = np.where(seen, prior * (1 - shrink), prior)
    return jitter, error, np.where(known, left - jitter[:, None], np.nan)
