"""Time of the loops alone that functions are made of, beside what a ratio to plain NumPy leaves for all of it.

    PYTHONPATH=tests python -m benchmarks.parts --voxels 26 --threads 1 2

Loops take planes side by side, and nothing happens around them: no function is faster than its parts together.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial

import numpy as np

import xoctnorm
from benchmarks import baseline
from benchmarks.speed import N_SECTIONS, make_volume, seconds
from xoctnorm import normalization as fast
from xoctnorm.corrections.zprofile import tissue_mean
from xoctnorm.kernels.background import background_steps, drift_steps, factor_steps, multiply_where
from xoctnorm.kernels.coarse import coarse_factor, coarse_plane
from xoctnorm.kernels.compiled_survey import add_planes
from xoctnorm.kernels.half_bins import HalfBins
from xoctnorm.kernels.histograms import Mapping, bin_centers, histogram
from xoctnorm.kernels.order_statistics import ends_without_zeros, plane_thresholds
from xoctnorm.kernels.steps import Step, take
from xoctnorm.kernels.strips import strips
from xoctnorm.threads import in_threads

N_BINS = 512
READ, WRITE, FIRST, ENDS, CUT = "sum", "copy", "digest, range, means", "floor and cap", "cut and divide"
HALVES, BINS, MAP, MEAN, TIMES = (
    "counts, sums in half bins",
    "counts in bins",
    "map",
    "mean of tissue",
    "multiply tissue",
)
BLOCKS, PERCENTILE, ALL, DRIFT = "means of blocks", "percentile", "cut, divide, map, multiply", "subtract, multiply"
NEW = " (into new memory)"

# Of the chain, and of the model of tissue, what has to happen in any case: reads in turn, and one write.
FUNCTIONS = {
    "apply_histogram_matching": (60, (BINS, MAP + NEW)),
    "apply_zprofile_smoothing": (15, (MEAN, TIMES + NEW)),
    "normalize(histogram, zprofile)": (40, (FIRST, ENDS, CUT, HALVES, ALL + NEW)),
    "normalize(joint, flatten_depth)": (30, (FIRST, BLOCKS, BLOCKS, PERCENTILE, DRIFT + NEW)),
}


def parts(volume: np.ndarray) -> dict[str, Callable[[], object]]:
    """Each part, over a whole volume."""
    mask = baseline.get_agarose_mask(volume)
    one = fast.normalize_volume(volume, mask)[0]
    tissue = ~mask
    n_pixels, factor, centers = mask.size, coarse_factor(*mask.shape), bin_centers(N_BINS, 0.0)
    mapping = Mapping.of(np.linspace(0.01, 0.98, N_BINS)[None] ** 1.01, centers, 0.0)
    background = background_steps(0.02, 0.6, 0.5)
    scratch = np.empty((len(volume), *mask.shape), np.float32)  # as large as the volume, as results are

    def each(function: Callable[[int], object]) -> Callable[[], object]:
        return lambda: [None for _ in in_threads(function, range(len(volume)))]

    def new(function: Callable[[int, np.ndarray], object]) -> Callable[[], object]:
        def write() -> object:
            out = np.empty_like(scratch)
            return [None for _ in in_threads(lambda z: function(z, out[z]), range(len(volume)))]

        return write

    def first(rows: slice) -> None:
        total, missing = np.zeros(mask[rows].size), np.zeros(mask[rows].size, np.int32)
        add_planes(volume[:, rows], total, missing, None, rows.start * mask.shape[1], n_pixels)

    def step(steps: list[Step], source: np.ndarray) -> Callable[[int, np.ndarray], None]:
        return lambda z, out: take(steps, source[z], out)

    return {
        READ: each(lambda z: one[z].sum()),
        WRITE + NEW: new(lambda z, out: np.copyto(out, one[z])),
        FIRST: lambda: [None for _ in in_threads(first, strips(mask.shape))],
        ENDS: each(lambda z: plane_thresholds(volume[z], mask, 99.9)),
        CUT: each(lambda z: take(background, volume[z], scratch[z % 2])),
        HALVES: each(lambda z: HalfBins.of(one[z], mask, N_BINS)),
        BINS: each(lambda z: histogram(one[z], N_BINS, 0.0)),
        MAP + NEW: new(step(mapping.steps(0), one)),
        ALL + NEW: new(step([*background, *mapping.steps(0), *factor_steps(1.01)], volume)),
        MEAN: each(lambda z: tissue_mean(one[z], tissue, 1)),
        TIMES + NEW: new(lambda z, out: multiply_where(one[z], tissue, 1.01, out)),
        BLOCKS: each(lambda z: coarse_plane(volume[z], factor)),
        PERCENTILE: each(lambda z: ends_without_zeros(volume[z], 99.9)),
        DRIFT + NEW: new(step(drift_steps(0.01, 1.01), volume)),
    }


def plain(volume: np.ndarray) -> dict[str, Callable[[], object]]:
    """Plain NumPy, by function."""
    mask = baseline.get_agarose_mask(volume)
    one = fast.normalize_volume(volume, mask)[0]
    tissue = np.broadcast_to(~mask, one.shape) & (one > 0)
    chain = partial(baseline.chain, volume, N_SECTIONS)
    by_function = dict.fromkeys(FUNCTIONS, chain)
    by_function["apply_histogram_matching"] = partial(baseline.apply_histogram_matching, one, N_SECTIONS)
    by_function["apply_zprofile_smoothing"] = partial(baseline.apply_zprofile_smoothing, one, tissue)
    return by_function


def tables(n_voxels: int, threads: list[int], runs: int) -> list[str]:
    """Rows of Markdown: nanoseconds per voxel of every part, and of the parts of functions together."""
    da = make_volume(n_voxels, "float32")
    volume, per_voxel = da.to_numpy(), 1e9 / da.size
    columns = " | ".join(f"{n} thread{'s' * (n > 1)}" for n in threads)
    found: dict[str, list[float]] = {}
    rows = [
        f"\n{' x '.join(str(n) for n in da.shape)} voxels in float32\n",
        f"| loop alone, ns per voxel | {columns} |",
    ]
    rows.append("| --- |" + " --: |" * len(threads))
    for name, function in parts(volume).items():
        found[name] = []
        for n in threads:
            os.environ["XOCTNORM_NUM_THREADS"] = str(n)
            function()
            found[name].append(seconds(function, runs) * per_voxel)
        rows.append(f"| {name} | " + " | ".join(f"{time:.2f}" for time in found[name]) + " |")
    rows += [f"\n| function, ns per voxel | plain | ratio aimed at | leaves | loops alone: {columns} |"]
    rows.append("| --- |" + " --: |" * (3 + len(threads)))
    times: dict[object, float] = {}
    for name, function in plain(volume).items():
        ratio, names = FUNCTIONS[name]
        if function not in times:
            times[function] = seconds(function, 1) * per_voxel
        together = np.sum([found[part] for part in names], axis=0)
        cells = [
            f"{times[function]:.1f}",
            str(ratio),
            f"{times[function] / ratio:.2f}",
            *(f"{t:.2f}" for t in together),
        ]
        rows.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=26, help="size, as a power of two")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    rows = tables(2**arguments.voxels, arguments.threads, arguments.runs)
    print(f"xoctnorm {xoctnorm.__version__}, NumPy {np.__version__}", *rows, sep="\n")


if __name__ == "__main__":
    main()
