"""Robust means of every plane over pixels that keep their class: all that the drift model needs to know of a volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, kernels_for, namespace, to_host
from xoctnorm.kernels.classes import AGAROSE, BRIGHT, DARK, TISSUES, TissueClasses
from xoctnorm.kernels.tile_series import TileSeries

Series = NDArray[np.float64]
Pixels = NDArray[np.int32]


class Slot(NamedTuple):
    """What is observed in a plane: a class, over a set of pixels.

    Attributes
    ----------
    kind
        Class.
    relative
        Section of the set, relative to the plane's.
    around
        Whether the pixels keep their class around the cut after that section only, not through it.
    """

    kind: int
    relative: int = 0
    around: bool = False


class SetKey(NamedTuple):
    """What tells a set of pixels from others."""

    row: int
    kind: int
    around: bool


class PixelSet(NamedTuple):
    """Pixels of a set, and whether all of them still have its class where the next section begins."""

    pixels: Pixels
    stays: bool


THROUGH = (Slot(AGAROSE), Slot(DARK), Slot(BRIGHT), Slot(DARK, -1), Slot(BRIGHT, -1))
"""Over sets that go through a section; the first three are those of the plane's own section, by class."""

SLOTS = (*THROUGH, *(Slot(kind, relative, around=True) for relative in (0, -1) for kind in TISSUES))
"""Over all sets."""


_LINK = 0.5  # share of the next section in whose planes a set is seen; around a cut, the rest of its own too
_ENOUGH = 0.5  # share of a set that has to be left where it is followed into the next section
TILES = 8  # along y and x; a tile that stands out of its series is left out
_FEWEST_PIXELS = 100  # of a set
_UNKNOWN = 0.2  # relative variance of a pixel, about five looks, where nothing tells it


@dataclass(frozen=True)
class ClassSums:
    """Means of planes over sets of pixels, by plane and slot; a set is seen in its section and just below the cut.

    Sets around a cut are seen in the planes next to it on both sides.

    Attributes
    ----------
    mean
        Robust mean of linear intensity, `(plane, slot)`; NaN where there is none.
    count
        Pixels behind it.
    common
        Pixels that a set shares with the one of the same class that goes through the section, `(plane, slot)`.
    variance
        Relative variance of one pixel, per class.
    """

    mean: Series
    count: Series
    common: Series
    variance: Series

    def through(self) -> ClassSums:
        """The same without sets around cuts."""
        n = len(THROUGH)
        return replace(self, mean=self.mean[:, :n], count=self.count[:, :n], common=self.common[:, :n])


@dataclass(frozen=True)
class TileSums:
    """Sums of planes over the pixels of a set in each of 8 x 8 tiles, `(plane, slot, tile)`.

    Attributes
    ----------
    total
        Of linear intensity.
    count
        Pixels with data.
    """

    total: Series
    count: Series


class ClassSummer:
    """Takes the planes of a volume one after the other."""

    def __init__(self, classes: TissueClasses, section: NDArray[np.int64]) -> None:
        self._classes = classes
        self._section = section
        shape = classes.start.shape[1:]
        rows, columns = (np.arange(n) * TILES // n for n in shape)
        self._tile = (rows[:, None] * TILES + columns).astype(np.uint8).ravel()
        self._row = -1
        self._sets: dict[SetKey, PixelSet] = {}
        self._there: dict[SetKey, Any] = {}  # pixels of the sets, where planes are
        self._tiles: dict[SetKey, list[tuple[int, int, Series, Series]]] = {}
        self._common = np.zeros((len(section), len(SLOTS)))
        self._n_planes = np.bincount(section, minlength=len(classes.start))
        self._z = -1

    def add(self, plane: NDArray[np.float32]) -> None:
        """Add the next plane, in linear intensity."""
        self._z += 1
        row = int(self._section[self._z])
        if row != self._row:
            before = {key: one for key, one in self._sets.items() if key.row == row - 1}
            self._sets = before | _sets(self._classes, row)
            self._shared = _count_common(self._sets, row, self._tile.size)
            self._row, self._number = row, -1
            self._there = {key: self._there[key] for key in self._sets if key in self._there}
        self._number += 1
        self._tile = alike(self._tile, plane)
        kernels, tile_sums = kernels_for(plane), kernels_for(plane, "compiled_drift")
        values = kernels.frozen(plane)
        below_cut = self._number < max(1, round(_LINK * int(self._n_planes[row])))
        for slot, (kind, relative, around) in enumerate(SLOTS):
            key = SetKey(row + relative, kind, around)
            one = self._sets.get(key)
            if one is None:
                continue
            seen = below_cut == bool(relative) if around else not relative or (below_cut and one.stays)
            if not seen:
                continue
            if key not in self._there:
                self._there[key] = alike(one.pixels, plane)
            of_tiles = namespace(plane).zeros((2, TILES**2))
            tile_sums.add_tiles(values, self._there[key], self._tile, *of_tiles)
            total, count = to_host(of_tiles)
            self._tiles.setdefault(key, []).append((self._z, slot, total, count))
            self._common[self._z, slot] = self._shared[slot]

    def sums(self) -> ClassSums:
        """Means of all planes so far."""
        shape = len(self._section), len(SLOTS)
        mean, count = np.full(shape, np.nan), np.zeros(shape)
        scatter: list[list[Series]] = [[], [], []]
        prepared = {}
        for key, observed in self._tiles.items():
            tiles = TileSeries.of(observed)
            if tiles is not None:
                prepared[key] = tiles
                scatter[key.kind].append(tiles.scatter())
        variance = np.array([_robust_variance(parts) for parts in scatter])
        for (_, kind, _), tiles in prepared.items():
            level, used = tiles.levels(variance[kind])
            mean[tiles.plane, tiles.slot], count[tiles.plane, tiles.slot] = level, used
        mean[~(mean > 0)] = np.nan
        return ClassSums(mean, count, self._common, variance)

    def tiles(self) -> TileSums:
        """Sums over tiles of all planes so far."""
        total, count = np.zeros((2, len(self._section), len(SLOTS), TILES**2))
        for observed in self._tiles.values():
            for z, slot, of_total, of_count in observed:
                total[z, slot], count[z, slot] = of_total, of_count
        return TileSums(total, count)


def _sets(classes: TissueClasses, row: int) -> dict[SetKey, PixelSet]:
    """Pixels that keep their class through a section, and on into the next where that leaves half of them.

    Those that keep it around the cut only are a set of their own, without what is followed across the cut anyway.
    """
    found = {}
    for kind in (AGAROSE, *TISSUES):
        through = classes.through[row].ravel() == kind
        if kind != AGAROSE and row + 1 < len(classes.start):
            on = through & (classes.start[row + 1].ravel() == kind)
            if on.sum() >= max(_FEWEST_PIXELS, _ENOUGH * through.sum()):
                through = on
        key = SetKey(row, kind, False)
        if np.count_nonzero(through) >= _FEWEST_PIXELS:
            found[key] = _pixel_set(classes, key, through)
        around = classes.around[row].ravel() == kind
        if key in found and found[key].stays:
            around[through] = False
        if np.count_nonzero(around) >= _FEWEST_PIXELS:
            key = SetKey(row, kind, True)
            found[key] = _pixel_set(classes, key, around)
    return found


def _pixel_set(classes: TissueClasses, key: SetKey, where: NDArray[np.bool_]) -> PixelSet:
    after = key.row + 1
    stays = after < len(classes.start) and bool((classes.start[after].ravel()[where] == key.kind).all())
    return PixelSet(np.flatnonzero(where).astype(np.int32), stays)


def _count_common(sets: dict[SetKey, PixelSet], row: int, n_pixels: int) -> list[int]:
    """Pixels that the set of every slot shares with the one of its class that goes through section `row`."""
    inside = np.zeros((1 + max(TISSUES), n_pixels), bool)
    for kind in (AGAROSE, *TISSUES):
        if (own := sets.get(SetKey(row, kind, False))) is not None:
            inside[kind, own.pixels] = True
    others = [(slot.kind, sets.get(SetKey(row + slot.relative, slot.kind, slot.around))) for slot in SLOTS]
    return [0 if other is None else int(np.count_nonzero(inside[kind, other.pixels])) for kind, other in others]


def _robust_variance(parts: list[Series]) -> float:
    values = np.concatenate([np.zeros(0), *parts])
    return float((1.4826 * np.median(np.abs(values))) ** 2 + 1e-8) if values.size else _UNKNOWN
