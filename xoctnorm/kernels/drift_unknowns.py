"""Unknowns of the drift model, and the equations that hold between them whatever is observed.

They follow from where planes are, so they are made once for all that is tried on the observations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import SLOTS
from xoctnorm.kernels.classes import AGAROSE, TISSUES
from xoctnorm.kernels.drift_equations import Equations, Priors, differences, rows_of

Series = NDArray[np.float64]
Index = NDArray[np.int64]

N_CLASSES = 3
_FEW = 400  # unknowns; with more, most sections share no equation, and zeros are worth leaving out
KIND = np.array([slot.kind for slot in SLOTS])
SET = np.array([slot.relative for slot in SLOTS])
AROUND = np.array([slot.around for slot in SLOTS])
OFFSET = KIND + len(TISSUES) * AROUND
"""Of every slot: class, section relative to the plane's, whether the set is one around a cut, and its number among
those of its section."""


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
    def bends(self) -> Series:
        """What the profile of a section may have of its own at every plane, linear and quadratic, `(2, plane)`."""
        through = self.through
        return np.stack([through, np.where(through == 0, 0.0, 1.5 * through**2 - 0.5)])

    @cached_property
    def cut(self) -> Series:
        """Position of the cut after every section."""
        rows = np.arange(self.n_sections)
        first = np.array([self.position[self.section == s].min() for s in rows])
        last = np.array([self.position[self.section == s].max() for s in rows])
        cuts: Series = (last + np.append(first[1:], last[-1] + 1)) / 2
        return cuts

    def unknowns(self, n_slots: int) -> Unknowns:
        """Unknowns behind the first slots, the same whenever they are asked for."""
        if n_slots not in self._asked_for:
            self._asked_for[n_slots] = Unknowns(self, n_slots)
        return self._asked_for[n_slots]

    @cached_property
    def _asked_for(self) -> dict[int, Unknowns]:
        return {}


@dataclass(frozen=True)
class Unknowns:
    """What is to be found of planes of which so many slots are observed."""

    planes: Planes
    n_slots: int

    @cached_property
    def set_section(self) -> Index:
        """Section of the set behind every slot, `(plane, slot)`."""
        rows: Index = self.planes.section[:, None] + SET[: self.n_slots]
        return rows

    @property
    def _n_offsets(self) -> int:
        return int(OFFSET[: self.n_slots].max()) + 1

    @cached_property
    def start(self) -> dict[str, int]:
        """Where the unknowns of each kind begin, and the end of all."""
        n, sizes = self.planes.n_sections, self.planes.n_depths
        counts = {
            "gain": n,
            "profile": N_CLASSES * sizes,
            "slope": 2 * n,
            "bump": 2 * n,
            "bend": 2 * n,
            "offset": self._n_offsets * n,
            "medium": 1,
        }
        starts = np.cumsum([0, *counts.values()])
        return dict(zip([*counts, "end"], starts.tolist(), strict=True))

    @cached_property
    def design(self) -> scipy.sparse.csr_array:
        """Unknowns in every observation, a row each, slots of a plane after one another."""
        p, at, n_slots = self.planes, self.start, self.n_slots
        shape = len(p.section), n_slots
        section = np.broadcast_to(p.section[:, None], shape)
        depth = np.broadcast_to(p.depth[:, None], shape)
        kind = np.broadcast_to(KIND[:n_slots], shape)
        away = p.position[:, None] - p.cut[np.maximum(self.set_section, 0)]
        through = np.broadcast_to(p.through[:, None], shape)
        tissue, own = kind != AGAROSE, ((SET == 0) & ~AROUND)[:n_slots]
        tissue_row = np.where(tissue, kind - 1, 0) * p.n_sections + section
        columns = np.stack(
            [
                at["gain"] + section,
                at["profile"] + kind * p.n_depths + depth,
                at["offset"] + OFFSET[:n_slots] * p.n_sections + np.maximum(self.set_section, 0),
                at["slope"] + tissue_row,
                at["bump"] + tissue_row,
                at["bend"] + section,
                at["bend"] + p.n_sections + section,
            ],
            axis=-1,
        )
        one = np.ones(shape)
        bump, bends = np.where(tissue & own, 1 - through**2, 0.0), np.broadcast_to(p.bends[:, :, None], (2, *shape))
        values = np.stack([one, one, one, np.where(tissue, away, 0.0), bump, *bends], axis=-1)
        return rows_of(at["end"], columns.reshape(-1, columns.shape[-1]), values)

    @cached_property
    def priors(self) -> Priors:
        """Equations that hold beside what is observed, those that tie agarose last."""
        at, n, n_depths = self.start, self.planes.n_sections, self.planes.n_depths
        width, depths = at["end"], np.arange(1, max(n_depths - 2, 1))[:, None] + np.arange(3)
        blocks = [("firm", rows_of(width, np.arange(n)[None], np.full((1, n), 1 / n)))]
        blocks.append(("walk", differences(width, at["gain"], n, (1.0, -1.0))))
        for kind in TISSUES:
            pairs = at["profile"] + np.concatenate([kind * n_depths + depths, AGAROSE * n_depths + depths], axis=1)
            second = np.array([1.0, -2.0, 1.0, -1.0, 2.0, -1.0])
            blocks.append((f"attenuation {kind}", rows_of(width, pairs, np.tile(second, (len(pairs), 1)))))
        for kind in range(N_CLASSES):
            start = at["profile"] + kind * n_depths
            mean = rows_of(width, start + np.arange(n_depths)[None], np.full((1, n_depths), 1 / n_depths))
            blocks.append((f"mean {kind}", mean))
            blocks.append((f"profile {kind}", differences(width, start + 1, n_depths - 1, (-1.0, 3.0, -3.0, 1.0))))
            blocks.append(("wide", differences(width, start, n_depths, (1.0,))))
        blocks += [(name, differences(width, at[name], 2 * n, (1.0,))) for name in ("slope", "bump", "bend")]
        blocks.append(("loose", differences(width, at["offset"], self._n_offsets * n, (1.0,))))
        blocks.append(("loose", differences(width, at["medium"], 1, (1.0,))))
        pairs = np.stack([at["offset"] + AGAROSE * n + np.arange(n), np.full(n, at["medium"])], axis=1)
        blocks.append(("agarose", rows_of(width, pairs, np.tile([1.0, -1.0], (n, 1)))))
        return Priors.of(blocks)

    @cached_property
    def equations(self) -> Equations:
        """All equations; where unknowns are many, those of each section together, of which neighbours share some."""
        at, n = self.start, self.planes.n_sections
        place = np.arange(at["end"])
        n_first = 0
        if at["end"] > _FEW:
            # Offsets last, next to the section that sees them too.
            of_sections = [np.arange(at[name], at[name] + 2 * n) for name in ("slope", "bump", "bend")]
            of_sections.append(np.arange(at["offset"], at["medium"]))
            first = np.concatenate(of_sections).reshape(-1, n).T.ravel()
            n_first = first.size
            rest = np.setdiff1d(place, first)
            place[np.concatenate([first, rest])] = np.arange(at["end"])
        return Equations.of(self.design, self.n_slots, self.priors.rows, place, n_first)
