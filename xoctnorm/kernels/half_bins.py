"""Counts and sums in halves of bins, from which follow a histogram, and what means become when it is matched.

A mapping is linear from one bin centre to the next, so the mean of mapped values follows from the counts and the sums
of the values between centres, without a look at the values. Both are held in one word for every half of a bin: values
are counted in its upper bits, and in the lower ones their distances from its beginning are summed, in parts of 2**-24
or about that, to which they are rounded as float32 rounds. Whole numbers add up in any order.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.histograms import Mapping, bin_edges, histogram_range

COUNT_BITS = 40  # from which on values are counted
FEWEST_BINS, MOST_BINS, MOST_VALUES = 256, 4096, 2**24 - 1  # with fewer bins, parts would have to be coarse
_MARGIN = 16  # parts by which a value may lie beyond its half bin, where that is rounded
# Places behind the bins; nothing, 0 or NaN, has several in turn, since one would have to wait for itself.
HIGH, LOW, NEGATIVE, NOTHING, NOTHINGS = 0, 1, 2, 3, 8
SPECIAL = NOTHING + NOTHINGS

Words = NDArray[np.uint64]


class HalfBins(NamedTuple):
    """Histogram of a plane, and words of the half bins of its tissue."""

    counts: NDArray[np.int64]
    tissue: Words

    @classmethod
    def of(cls, plane: NDArray[np.float32], agarose: NDArray[np.bool_], n_bins: int) -> HalfBins:
        """Look at a plane, of which what is neither empty nor agarose is tissue; bins begin just above 0."""
        from xoctnorm.kernels import compiled, compiled_histograms

        words = np.zeros((2, 2 * n_bins + SPECIAL), np.uint64)
        edges, (parts, first) = bin_edges(n_bins, 0.0), _parts(n_bins)
        first_part = np.zeros(words.shape, np.int32)
        first_part[:, : 2 * n_bins] = first
        compiled_histograms.half_bin_words(
            compiled.frozen(plane), compiled.frozen(agarose), edges, parts, first_part.reshape(-1), words
        )
        counts = (words >> np.uint64(COUNT_BITS)).sum(axis=0).astype(np.int64)
        return cls(counts[: 2 * n_bins].reshape(n_bins, 2).sum(axis=1), words[0, : 2 * n_bins + NOTHING].copy())


@cache
def _parts(n_bins: int) -> tuple[int, NDArray[np.int64]]:
    """Into how many parts 1 is divided, 2**15 for each half bin at most, and the first part of each half bin."""
    parts = min(2**24, 2**14 * 2 ** n_bins.bit_length())
    low, high = histogram_range(0.0)
    starts = low + (high - low) / (2 * n_bins) * np.arange(2 * n_bins)
    first = (starts * parts).astype(np.int64) - _MARGIN
    first.flags.writeable = False
    return parts, first


def mean_when_mapped(tissue: Words, mapping: Mapping, row: int) -> tuple[float, int]:
    """Mean of the tissue of a plane that is mapped by a row of tables, and how many voxels it has.

    The mean is NaN where half bins do not tell it: where values are negative, or above 1 and not mapped.
    """
    n_halves = tissue.size - NOTHING
    count = (tissue >> np.uint64(COUNT_BITS)).astype(np.float64)
    high, low, negative = count[n_halves:]
    n_voxels = int(count.sum())
    count = count[:n_halves]
    parts, first = _parts(n_halves // 2)
    total = ((tissue[:n_halves] & np.uint64(2**COUNT_BITS - 1)).astype(np.float64) + count * first) / parts
    lines, strength = mapping.lines[row], mapping.strength
    matched = not np.isnan(lines[0, 1])
    if negative or (high and not (matched and strength == 1)) or not n_voxels:
        return np.nan, n_voxels
    if not matched:
        return float(total.sum()) / n_voxels, n_voxels
    slope, offset = lines[np.maximum(np.arange(n_halves) - 1, 0) // 2].T.copy()
    ends = lines[0, 0] * float(mapping.centers[0]) + lines[0, 1], lines[-1, 1]
    slope[0], offset[0] = 0.0, ends[0]  # below the first centre
    mapped = float((slope * total + offset * count).sum()) + low * ends[0] + high * ends[1]
    return ((1 - strength) * float(total.sum()) + strength * mapped) / n_voxels, n_voxels
