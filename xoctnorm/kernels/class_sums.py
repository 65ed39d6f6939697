"""Robust means of every plane over pixels that keep their class: all that the drift model needs to know of a volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, namespace, to_host
from xoctnorm.kernels.classes import AGAROSE, BRIGHT, DARK, TISSUES, TissueClasses
from xoctnorm.kernels.tile_series import TILES, TileSeries

Series = NDArray[np.float64]
Images = NDArray[np.uint8]


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
    """Where a set is in a flat plane, and whether all of it still has its class where the next section begins."""

    where: NDArray[np.bool_]
    stays: bool


Seen = dict[int, tuple[SetKey, int]]
"""Sets that a plane sees, by slot, and pixels that each shares with the one of its class that goes through."""


THROUGH = (Slot(AGAROSE), Slot(DARK), Slot(BRIGHT), Slot(DARK, -1), Slot(BRIGHT, -1))
"""Over sets that go through a section; the first three are those of the plane's own section, by class."""

SLOTS = (*THROUGH, *(Slot(kind, relative, around=True) for relative in (0, -1) for kind in TISSUES))
"""Over all sets."""


_LINK = 0.5  # share of the next section in whose planes a set is seen; around a cut, the rest of its own too
_ENOUGH = 0.5  # share of a set that has to be left where it is followed into the next section
_MOST_SEEN = len(THROUGH) + len(TISSUES)  # sets that one plane sees: around one of its two cuts
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


class ClassImages:
    """Where the sets of pixels lie that planes see: images of their slots, for one plane after the other."""

    def __init__(self, classes: TissueClasses, row: NDArray[np.int64]) -> None:
        """`row` is the section of every plane in `classes`, -1 of those that take no part."""
        self._classes, self._row_of_plane = classes, row
        self.used = np.flatnonzero(row >= 0)
        of_used = row[self.used]
        n_planes = np.bincount(of_used, minlength=len(classes.start))
        below_cut = np.maximum(1, np.rint(_LINK * n_planes))[of_used]
        self._below_cut = np.zeros(row.size, bool)
        self._below_cut[self.used] = np.arange(of_used.size) - np.searchsorted(of_used, of_used) < below_cut
        self._row = -1
        self._sets: dict[SetKey, PixelSet] = {}
        self._images: dict[bool, Images] = {}
        self._seen: dict[tuple[int, bool], Seen] = {}
        self._nothing = np.zeros((0, classes.start[0].size), np.uint8)

    def of_plane(self, number: int) -> Images:
        """Which of the sets that it sees a pixel belongs to, from 1 on, or 0; `(image, pixel)`, since sets overlap.

        Planes are asked for in their order.
        """
        row = int(self._row_of_plane[number])
        if row < 0:
            return self._nothing
        if row != self._row:
            before = {key: one for key, one in self._sets.items() if key.row == row - 1}
            self._sets = before | _sets(self._classes, row)
            for below_cut in (True, False):
                self._seen[row, below_cut] = seen = _seen(self._sets, row, below_cut)
                self._images[below_cut] = self._drawn(seen)
            self._row = row
        return self._images[bool(self._below_cut[number])]

    def seen(self, number: int) -> Seen:
        """What a plane sees, once its images were asked for; nothing where it takes no part."""
        return self._seen.get((int(self._row_of_plane[number]), bool(self._below_cut[number])), {})

    def _drawn(self, seen: Seen) -> Images:
        images: dict[tuple[int, bool], NDArray[np.uint8]] = {}
        for number, (slot, (key, _)) in enumerate(seen.items(), 1):
            where, (_, relative, around) = self._sets[key].where, SLOTS[slot]
            images.setdefault((relative, around), np.zeros(where.size, np.uint8))[where] = number
        return np.stack(list(images.values())) if images else self._nothing


def tile_sums(plane: NDArray[np.float32], images: Images) -> NDArray[np.float64]:
    """Sum and number of the pixels of a plane that are finite and not 0, `(2, set that it sees, tile)`, on the host."""
    kernels, sums = kernels_for(plane), kernels_for(plane, "compiled_drift")
    found = namespace(plane).zeros((2, _MOST_SEEN, TILES**2))
    sums.add_tiles(kernels.frozen(plane), plane.shape[1], images, *found)
    return to_host(found)


class ClassSummer:
    """Takes the sums of one plane after the other, in linear intensity, and of each what it sees."""

    def __init__(self, images: ClassImages) -> None:
        self._images = images
        self._tiles: dict[SetKey, list[tuple[int, int, Series, Series]]] = {}
        self._common = np.zeros((images.used.size, len(SLOTS)))

    def add(self, number: int, sums: NDArray[np.float64]) -> None:
        """Add the sums of a plane over tiles; one that takes no part sees nothing."""
        total, count = sums
        z = int(np.searchsorted(self._images.used, number))
        for n, (slot, (key, common)) in enumerate(self._images.seen(number).items()):
            self._tiles.setdefault(key, []).append((z, slot, total[n], count[n]))
            self._common[z, slot] = common

    def sums(self) -> ClassSums:
        """Means of all planes so far."""
        shape = self._common.shape
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
        total, count = np.zeros((2, *self._common.shape, TILES**2))
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
    return PixelSet(where, stays)


def _seen(sets: dict[SetKey, PixelSet], row: int, below_cut: bool) -> Seen:
    """Sets that planes of a section see, below the cut or further down."""
    seen = {}
    for slot, (kind, relative, around) in enumerate(SLOTS):
        key = SetKey(row + relative, kind, around)
        one, through = sets.get(key), sets.get(SetKey(row, kind, False))
        if one is None:
            continue
        if below_cut == bool(relative) if around else not relative or (below_cut and one.stays):
            seen[slot] = key, 0 if through is None else int(np.count_nonzero(one.where & through.where))
    return seen


def _robust_variance(parts: list[Series]) -> float:
    values = np.concatenate([np.zeros(0), *parts])
    return float((1.4826 * np.median(np.abs(values))) ** 2 + 1e-8) if values.size else _UNKNOWN
