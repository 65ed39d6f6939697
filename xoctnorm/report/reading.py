"""What the report reads: each volume once, a block of planes at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.blocks import memory_of
from xoctnorm.kernels.backend import namespace, to_host
from xoctnorm.plot.reads import Cuts, Image, masks_of, sampled_planes, shrunk, tissue_mean, tissue_values
from xoctnorm.plot.series import Numbers, Series

_MOST_PLANES = 128
_MOST_SECTIONS = 200
_SIDES = ((40, 480), (128, 320), (10**9, 224))  # up to how many planes are shown, pixels across


@dataclass(frozen=True)
class Seen:
    """What one read tells.

    Attributes
    ----------
    means
        Mean over tissue of every plane.
    mean
        Mean projection, coarse.
    images
        Planes that are shown, coarse, by number.
    samples
        Values of the tissue of sections, by row.
    cuts
        Three orthogonal cuts.
    """

    means: Numbers
    mean: Image
    images: dict[int, Image]
    samples: dict[int, NDArray[np.float32]]
    cuts: Cuts


class _OfPlane(NamedTuple):
    """What one plane tells; `coarse` stays where the plane is, since few are shown."""

    mean: float
    coarse: Image
    values: NDArray[np.float32] | None
    row: NDArray[np.float32]
    column: NDArray[np.float32]
    whole: NDArray[np.float32] | None


def shown_planes(series: Series) -> list[int]:
    """Planes to step through: all where they are few, else the same parts of the depth of evenly spread sections."""
    if len(series) <= _MOST_PLANES:
        return list(range(len(series)))
    n = len(series.sections)
    rows = range(0, n, -(-n // _MOST_SECTIONS))
    each = max(1, _MOST_PLANES // len(rows))
    shown = []
    for row in rows:
        inside = np.flatnonzero(series.sections.index == row)
        parts = np.linspace(0, len(inside) - 1, each) if each > 1 else [(len(inside) - 1) // 2]
        shown += inside[np.unique(np.rint(parts).astype(int))].tolist()
    return shown


def read_once(series: Series, shown: list[int], at: tuple[int, int, int]) -> Seen:
    """Look at all planes of a volume, once; cuts are where `at` says."""
    side = next(side for most, side in _SIDES if len(shown) <= most)
    sampled = np.zeros(len(series), bool)
    sampled[sampled_planes(series)] = True
    look = partial(_look, sampled=sampled, at=at, side=side)
    means, rows, columns = np.empty(len(series)), [], []
    images: dict[int, Image] = {}
    by_row: dict[int, list[NDArray[np.float32]]] = {}
    xp = namespace(memory_of(series.planes.data))
    total: Any = None
    count: Any = None
    whole: NDArray[np.float32] | None = None
    wanted = set(shown)
    with progress.job("report", len(series)):
        for number, found in enumerate(series.planes.each_plane(look, masks_of(series))):
            means[number] = found.mean
            rows.append(found.row)
            columns.append(found.column)
            known = xp.isfinite(found.coarse)
            if total is None:
                total, count = xp.zeros(known.shape), xp.zeros(known.shape)
            total += xp.where(known, found.coarse, 0)
            count += known
            if number in wanted:
                images[number] = to_host(found.coarse)
            if found.values is not None:
                by_row.setdefault(int(series.sections.index[number]), []).append(found.values)
            whole = found.whole if found.whole is not None else whole
    assert whole is not None
    mean = to_host(xp.where(count > 0, total / xp.maximum(count, 1), np.nan))
    samples = {row: np.concatenate(parts) for row, parts in by_row.items()}
    return Seen(means, mean, images, samples, Cuts(at, whole, np.array(rows), np.array(columns)))


def _look(
    number: int,
    plane: NDArray[np.float32],
    agarose: NDArray[np.bool_],
    *,
    sampled: NDArray[np.bool_],
    at: tuple[int, int, int],
    side: int,
) -> _OfPlane:
    middle, row, column = at
    return _OfPlane(
        tissue_mean(number, plane, agarose),
        shrunk(plane, side).astype(np.float32),
        tissue_values(number, plane, agarose) if sampled[number] else None,
        to_host(plane[row].copy()),
        to_host(plane[:, column].copy()),
        to_host(plane.copy()) if number == middle else None,
    )
