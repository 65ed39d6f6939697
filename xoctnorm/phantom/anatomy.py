"""The anatomy of the phantom: a folded brain whose outline changes along z, or classes that are given."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EMPTY, AGAROSE, GREY_MATTER, WHITE_MATTER = range(4)
"""Values of ``tissue_class``."""

Anatomy = Callable[[tuple[int, int], float], tuple[NDArray[np.int8], NDArray[np.float32]]]
"""Makes tissue class and texture (mean 0, variance 1) from the shape of the field and from 0 to 1 along z."""


class Waves(NamedTuple):
    """A smooth random function of z, y and x: a sum of waves, so that any plane can be had by itself."""

    frequency: NDArray[np.float64]  # (wave, axis), in radians
    phase: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, cycles: float, cycles_z: float) -> "Waves":
        """Draw waves with about `cycles` over the field, in all directions, and up to `cycles_z` along z."""
        direction = (np.arange(n) + rng.uniform(size=n)) * math.pi / n
        lateral = math.pi * cycles * rng.uniform(0.7, 1.3, n)  # the field has length 2
        along_z = 2 * math.pi * cycles_z * rng.uniform(-1, 1, n)
        frequency = np.stack([along_z, lateral * np.sin(direction), lateral * np.cos(direction)], axis=1)
        return cls(frequency, rng.uniform(0, 2 * math.pi, n))

    def at(self, t: float, v: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values on the grid of `v` and `u`: mean 0, variance 1, never beyond sqrt(2 n)."""
        kz, ky, kx = self.frequency.T[:, :, np.newaxis]
        along_y = (self.phase[:, np.newaxis] + kz * t + ky * v).astype(np.float32)
        along_x = (kx * u).astype(np.float32)
        # cos(a + b), taken apart: a wave costs two outer products and no cosine per pixel. einsum without
        # optimization stays away from BLAS, whose sums may depend on the number of threads.
        amplitude = np.float32(math.sqrt(2 / len(self.phase)))
        values: NDArray[np.float32] = np.einsum("ky,kx->yx", np.cos(along_y), np.cos(along_x))
        values -= np.einsum("ky,kx->yx", np.sin(along_y), np.sin(along_x))
        return values * amplitude


@dataclass(frozen=True)
class WavyBrain:
    """Two fused hemispheres, folded cortex, white matter, deep grey nuclei."""

    waves: Mapping[str, Waves]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "WavyBrain":
        """Draw the waves that shape the outline, the folds and the texture of one brain."""
        return cls(
            {
                "warp_y": Waves.draw(rng, 6, cycles=1.0, cycles_z=0.6),
                "warp_x": Waves.draw(rng, 6, cycles=1.0, cycles_z=0.6),
                "folds": Waves.draw(rng, 12, cycles=4.0, cycles_z=0.8),
                "texture": Waves.draw(rng, 12, cycles=5.0, cycles_z=1.5),
            }
        )

    def __call__(self, shape: tuple[int, int], t: float) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Tissue class and texture at `t`."""
        v, u = ((2 * np.arange(n) + 1) / n - 1 for n in shape)  # -1 to 1, at pixel centres
        wave = {name: one.at(t, v, u) for name, one in self.waves.items()}

        # The warp of 6 waves stays below 0.11, the hemispheres within 0.82: the brain can't touch the border.
        scale = 0.55 + 0.45 * math.sin(math.pi * t)
        side = np.abs(u.astype(np.float32) + 0.03 * wave["warp_x"]) / scale
        up = (v.astype(np.float32)[:, np.newaxis] + 0.03 * wave["warp_y"]) / scale
        hemisphere = 1 - np.hypot((side - 0.32) / 0.5, (up + 0.12) / 0.66)
        stem = 1 - np.hypot(side / 0.42, (up - 0.22) / 0.5)
        inside = np.maximum(hemisphere, stem)  # 0 at the surface, 1 deep inside

        sulci = np.exp(-((wave["folds"] / 0.3) ** 2))
        ridges = np.minimum(np.abs(wave["folds"]), 1.5)
        nuclei = np.hypot((side - 0.25) / 0.17, (up - 0.1) / 0.2) < 1 + 0.1 * wave["texture"]
        tissue_class = np.full(shape, AGAROSE, np.int8)
        tissue_class[inside > 0.14 * sulci] = GREY_MATTER
        tissue_class[(inside > 0.44 - 0.18 * ridges) & ~nuclei] = WHITE_MATTER
        return tissue_class, wave["texture"]


@dataclass(frozen=True)
class GivenAnatomy:
    """Classes that are given, ``(n, y, x)``: the nearest of the `n`, with the texture of the wavy brain."""

    tissue_class: NDArray[np.int8]
    texture: Anatomy

    def __call__(self, shape: tuple[int, int], t: float) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Tissue class and texture at `t`."""
        return self.tissue_class[int(t * len(self.tissue_class))].copy(), self.texture(shape, t)[1]
