"""Whether what was taken for agarose or for tissue is the other, as its decay with depth tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.corrections.drift_reads import Observed
from xoctnorm.kernels.classes import AGAROSE, BRIGHT, DARK
from xoctnorm.kernels.drift import Drift

Numbers = NDArray[np.float64]

_FALLS = 0.05  # log brightness from the beginning to the end of a section: less is no decay worth telling apart
_ALIKE = 0.4  # of the difference between the decays of two classes: a third that is so near to one is like it


def _falls(drift: Drift) -> tuple[Numbers, Numbers]:
    """How much each class changes from the beginning to the end of sections, in log, and the error of that.

    NaN with fewer than 4 depths. The first plane after a cut is left out: it has a value of its own.
    """
    below, error = drift.profile[:, 1:], drift.profile_error[:, 1:]
    third = below.shape[1] // 3
    if not third:
        unknown = np.full(len(drift.profile), np.nan)
        return unknown, unknown
    change = below[:, -third:].mean(axis=1) - below[:, :third].mean(axis=1)
    return change, 2**0.5 * np.median(error, axis=1)


def dark_is_agarose(observed: Observed, drift: Drift) -> bool:
    """Whether the darker tissue is agarose that the mask misses, as where half of the field is half as bright.

    It decays as agarose does, while the brighter tissue does not, and is nearer to agarose in brightness than to it.
    Where hardly a section shows agarose, that it does not decay at all has to do.
    """
    means = observed.sums.mean[:, [AGAROSE, DARK, BRIGHT]] - np.reshape(drift.noise_floor, (-1, 1))
    change, error = _falls(drift)
    known = bool(error[AGAROSE] <= _FALLS and 2 * np.isfinite(means[:, AGAROSE]).sum() >= len(means))
    agarose = change[AGAROSE] if known else 0.0
    apart = abs(change[BRIGHT] - agarose)
    decays = apart > max(_FALLS, 3 * error[BRIGHT]) and abs(change[DARK] - agarose) < _ALIKE * apart
    if not known:
        return bool(decays and abs(change[DARK]) < 3 * error[DARK] < _FALLS)
    log = [float(np.log(np.median(level[level > 0]))) if (level > 0).any() else np.nan for level in means.T]
    return bool(decays and log[DARK] - log[AGAROSE] < log[BRIGHT] - log[DARK])


def mistaken_dark(reference: str) -> str:
    """What to say of darker tissue that is agarose."""
    return (
        "what is taken for darker tissue does not decay as the brighter tissue does, but like agarose, and may be "
        "that: look at the agarose mask, or pass agarose_mask=. The "
        f"{reference}er tissue is the reference of the depth profile; say reference_tissue= to choose"
    )


def decaying_agarose(drift: Drift) -> str | None:
    """What to say of agarose that decays as one of the tissues does; None where it does not."""
    change, error = _falls(drift)
    fall = -change[AGAROSE]
    if not fall > max(_FALLS, 3 * error[AGAROSE]):
        return None
    apart = np.abs(change[[DARK, BRIGHT]] - change[AGAROSE])
    doubt = np.maximum(0.01, 3 * np.hypot(error[AGAROSE], error[[DARK, BRIGHT]]))
    if not (apart < np.minimum(doubt, fall / 2)).any():
        return None
    return (
        f"what is taken for agarose falls to {np.exp(-fall):.0%} through a section, as tissue does, though agarose "
        "attenuates no light: is there agarose in the field? If not, say noise_floor= where it is known, and do not "
        "trust ratios of tissues"
    )
