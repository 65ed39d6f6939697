"""The model of drift: log intensity is gain of the section, depth profile of the class, anatomy, and jitter.

For plane `z` of section `s`, at depth `d` below the cut, and pixels of class `c` that belong to a set::

    log(mean − noise floor) = gain[s] + profile[c, d] + bend[s, d] + jitter[z]
                              + offset[set] + slope[c, s] · (position − cut) + bump[c, s, d] + error

A set of pixels is seen through its whole section and in the first half of the next: that is how gains are
compared across a cut, at equal depth, tissue against the same tissue. Pixels that stay the same around a cut only may
be seen there too, as sets of their own. Anatomy drifts (slope), and pixels that are one class at both cuts may be
another between them (bump). All classes of a section, agarose too, share what its profile has of its own (bend), as
where the focus moved. Sets of agarose may be tied to one level. It is solved by generalized least squares; jitter is a
random effect that all sets of a plane share.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.bordered import Factor
from xoctnorm.kernels.class_sums import ClassSums
from xoctnorm.kernels.classes import AGAROSE, TISSUES
from xoctnorm.kernels.drift_equations import product
from xoctnorm.kernels.drift_unknowns import KIND, N_CLASSES, OFFSET, SET, Planes, Unknowns

Series = NDArray[np.float64]
Index = NDArray[np.int64]

_LEAST_ERROR = 2e-4  # of a log mean
_FIRM = 1e-5  # how firmly the mean of gains, and of profiles, is held at 0
_LOOSE = 1e3
_GAIN_WALK = 1.0  # gains of neighbouring sections differ by no more than a few such: it only bridges what nothing tells
_ODD_JITTER = 3.0


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
class Solution:
    """Estimates at one noise floor.

    Attributes
    ----------
    gain
        Log gain of sections, mean 0.
    profile
        Log depth profile `(class, depth)`, mean 0.
    jitter, jitter_var
        Log jitter of planes, shrunk, and its error variance.
    bend
        What the profile of its section has of its own, of every plane.
    medium
        Log level of agarose of every section, NaN where there is none.
    residual
        Of every observation, jitter taken off, `(plane, slot)`; NaN where there is none.
    chi2
        Reduced χ² of all observations.
    factor, places
        Of the normal equations, and where gains, profiles and known levels of agarose are there.
    """

    gain: Series
    profile: Series
    jitter: Series
    jitter_var: Series
    bend: Series
    medium: Series
    residual: Series
    chi2: float
    factor: Factor
    places: tuple[Index, Index, Index]

    @cached_property
    def gain_cov(self) -> Series:
        """Covariance of log gains."""
        return self.factor.inverse(self.places[0])

    @cached_property
    def profile_cov(self) -> Series:
        """Covariance of log depth profiles, `(class, depth, depth)`."""
        return np.stack([self.factor.inverse(of_class) for of_class in self.places[1]])

    @cached_property
    def medium_cov(self) -> Series:
        """Covariance of those levels of agarose that are known."""
        return self.factor.inverse(self.places[2])


@dataclass(frozen=True)
class DriftModel:
    """Observations, and the equations that they obey.

    Attributes
    ----------
    sums
        What was observed, in all slots or in those of sets that go through a section.
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
    def _classes(self) -> Index:
        """Classes of which there are observations."""
        return np.unique(self.kind[self.known.any(axis=0)])

    @cached_property
    def _unseen(self) -> NDArray[np.bool_]:
        """Equations of classes that are not seen, which would hold those so firmly that all else is rounded off."""
        unseen = np.setdiff1d(np.arange(N_CLASSES), self._classes)
        names = [f"mean {kind}" for kind in unseen]
        names += [f"{name} {kind}" for kind in unseen if kind in TISSUES for name in ("profile", "attenuation")]
        return np.isin(self._unknowns.priors.group, names)

    @property
    def n_slots(self) -> int:
        """Number of slots."""
        return int(self.known.shape[1])

    @property
    def kind(self) -> Index:
        """Class of every slot."""
        return KIND[: self.n_slots]

    @property
    def _unknowns(self) -> Unknowns:
        return self.planes.unknowns(self.n_slots)

    @cached_property
    def set_number(self) -> Index:
        """Number of the set behind every observation; -1 where there is none, or agarose."""
        number = self._unknowns.set_section * (OFFSET.max() + 1) + OFFSET[: self.n_slots]
        return np.where(self.known & (self.kind != AGAROSE), number, -1)

    def _prior_weights(self, spreads: Spreads, tied: NDArray[np.bool_]) -> Series:
        """What brings the equations that hold beside what is observed to units of their standard deviations."""
        deviation = {"firm": _FIRM, "walk": _GAIN_WALK, "wide": 100.0, "loose": _LOOSE}
        deviation |= {name: getattr(spreads, name) for name in ("slope", "bump", "bend", "agarose")}
        for kind in range(N_CLASSES):
            deviation[f"mean {kind}"] = _FIRM
            deviation[f"profile {kind}"], deviation[f"attenuation {kind}"] = spreads.profile, spreads.attenuation
        priors, left_out = self._unknowns.priors, self._unseen.copy()
        left_out[-len(tied) :] = ~tied
        return priors.weights(deviation, left_out)

    @cached_property
    def _shared(self) -> Series:
        """Covariance of a set and the one of its class that goes through the section, `(plane, slot)`, for one pixel.

        Tiles were left out of some sets: no set shares more than it has, and the one that goes through no more than
        that with all others together, which have no pixels in common.
        """
        count, shared = np.maximum(self.sums.count, 1), np.zeros(self.known.shape)
        for own in TISSUES:
            others = np.flatnonzero(self.kind == own)[1:]
            common = np.where(self.known[:, others], np.minimum(self.sums.common, count)[:, others], 0)
            most = count[:, [own]] / np.maximum(common.sum(axis=1, keepdims=True), 1)
            shared[:, others] = common * np.minimum(most, 1) / (count[:, [own]] * count[:, others])
        return shared

    @cached_property
    def _of_pixels(self) -> tuple[Series, Series]:
        """What pixels make of the covariance, in the same units: `_shared`, and the variance of every observation."""
        pixel = self.sums.variance[self.kind]
        return self._shared * pixel, pixel / np.maximum(self.sums.count, 1)

    @cached_property
    def _doubt_of_each(self) -> Series:
        """Doubt of every observation."""
        return np.ascontiguousarray(np.broadcast_to(self.doubt, self.known.shape), float)

    @cached_property
    def _is_odd(self) -> NDArray[np.bool_]:
        """Whether each plane is an odd one."""
        return np.broadcast_to(self.odd, self.planes.section.shape)

    @cached_property
    def _mean(self) -> Series:
        """Mean of every observation, 1 where there is none."""
        return np.where(self.known, self.sums.mean, 1.0)

    def _covariance(self, spreads: Spreads, inflation: Series) -> Series:
        """Covariance of the observations of every plane, without jitter, `(plane, slot, slot)`."""
        from xoctnorm.kernels import compiled_drift

        shared, error = self._of_pixels
        own = np.empty((*self.known.shape, self.n_slots))
        compiled_drift.covariances(
            self.known,
            error,
            inflation,
            self._doubt_of_each,
            self.kind,
            shared,
            spreads.anatomy**2,
            _LEAST_ERROR**2,
            own,
        )
        return own

    def objective(self, floor: float | Series, spreads: Spreads, tied: NDArray[np.bool_]) -> float:
        """−2 log restricted likelihood at a noise floor, up to a constant."""
        return self._reduced(floor, spreads, tied).objective

    def solve(self, floor: float | Series, spreads: Spreads, tied: NDArray[np.bool_]) -> Solution:
        """Estimate everything at a noise floor, with the agarose of some sections tied to one level."""
        known, at = self.known, self._unknowns.start
        n, n_depths = self.planes.n_sections, self.planes.n_depths
        found = self._reduced(floor, spreads, tied)
        u, left = found.unknowns, np.where(known, found.left, 0)
        jitter, jitter_var, residual = _split_jitter(left, found.own, known, self._jitter_variance(spreads))
        has = np.isin(np.arange(n), self.planes.section[known[:, 0]])
        levels = at["offset"] + AGAROSE * n + np.flatnonzero(has)
        medium = np.full(n, np.nan)
        medium[has] = u[levels]
        profile = np.arange(at["profile"], at["profile"] + N_CLASSES * n_depths).reshape(N_CLASSES, n_depths)
        place = self._unknowns.equations.place
        return Solution(
            gain=u[:n],
            profile=u[profile],
            jitter=jitter,
            jitter_var=jitter_var,
            bend=np.sum(u[at["bend"] + n * np.arange(2)[:, None] + self.planes.section] * self.planes.bends, axis=0),
            medium=medium,
            residual=residual,
            chi2=found.misfit / max(1, int(known.sum()) - (at["slope"] + 1)),
            factor=found.factor,
            places=(place[:n], place[profile], place[levels]),
        )

    def _jitter_variance(self, spreads: Spreads) -> Series:
        """Of every plane."""
        return np.where(self._is_odd, _ODD_JITTER**2, spreads.jitter**2)

    def _reduced(self, floor: float | Series, spreads: Spreads, tied: NDArray[np.bool_]) -> _Reduced:
        """Normal equations, solved."""
        from xoctnorm.kernels import compiled_drift

        known, mean, n = self.known, self._mean, self.planes.n_sections
        signal = np.where(known, np.maximum(mean - np.reshape(floor, (-1, 1)), 1e-3 * mean), 1.0)
        y, inflation = np.log(signal), np.where(known, mean / signal, 1.0)
        own = self._covariance(spreads, inflation)
        weight, jitter = np.empty_like(own), self._jitter_variance(spreads)
        log_det = compiled_drift.invert_blocks(own, known, jitter, weight) - 2 * float(np.log(inflation[known]).sum())
        equations, prior_weight = self._unknowns.equations, self._prior_weights(spreads, tied)
        normal, right = equations.normal(weight, y, prior_weight)
        factor = Factor.of(normal)
        u = factor.solve(right)
        left = y - product(equations.design, u).reshape(y.shape)
        misfit = float(
            np.sum(left * (weight @ left[..., None])[..., 0])
            + np.sum((prior_weight * product(equations.priors, u)) ** 2)
        )
        log_det += factor.log_det
        # Deviations of priors that are themselves estimated belong into the likelihood.
        n_tissues = int(np.isin(self._classes, TISSUES).sum())
        log_det += 2 * n_tissues * max(self.planes.n_depths - 3, 0) * float(np.log(spreads.attenuation))
        log_det += 4 * n * float(np.log(spreads.slope * spreads.bump * spreads.bend))
        log_det += 2 * int(tied.sum()) * float(np.log(spreads.agarose))
        return _Reduced(u[equations.place], left, own, factor, misfit, misfit + log_det)

    def without_links(self, tied: NDArray[np.bool_]) -> DriftModel:
        """The same without what tissue tells across the cuts between sections whose agarose counts."""
        mean = self.sums.mean.copy()
        row = self.planes.section
        mean[np.ix_(tied[row] & tied[np.maximum(row - 1, 0)], SET[: self.n_slots] < 0)] = np.nan
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
