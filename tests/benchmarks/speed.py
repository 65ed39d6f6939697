"""Time and memory of xoctnorm against plain NumPy on the same volume.

    PYTHONPATH=tests python -m benchmarks.speed --voxels 22 26 --dtypes float32 uint16 --threads 1 2

Times are the best of some runs after one to warm up. Compare ratios, within one run: machines differ. Peak memory is
what the process needs beyond the input and the result.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from skimage.exposure import match_histograms

import xoctnorm
from benchmarks import baseline
from xoctnorm import normalization as fast
from xoctnorm.kernels.digest import digest

N_SECTIONS = 8
PLANE = 1024


@dataclass(frozen=True)
class Case:
    """One row: a function of xoctnorm, and the same in plain NumPy."""

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    same: bool = False  # whether both give the same


def make_volume(n_voxels: int, dtype: str) -> xr.DataArray:
    """Sections of a disc of tissue with two classes in agarose, with drift, decay and speckle."""
    side = PLANE if n_voxels >= 2**23 else 256
    n_z = max(n_voxels // side**2, N_SECTIONS)
    rng = np.random.default_rng(0)
    y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = np.hypot(y, x)
    signal = np.where(radius < 0.8, np.where(radius < 0.4, 0.4, 0.2), 0.06).astype(np.float32)
    speckle = rng.gamma(6, 1 / 6, (2, *signal.shape)).astype(np.float32)
    section = np.arange(n_z) * N_SECTIONS // n_z
    gain = np.exp(0.2 * rng.standard_normal(N_SECTIONS))[section]
    depth = np.arange(n_z) - np.searchsorted(section, section)
    brightness = gain * np.exp(0.02 * rng.standard_normal(n_z))
    attenuation = np.where(radius < 0.8, np.float32(0.97), np.float32(1))  # agarose attenuates nothing
    volume = np.empty((n_z, side, side), dtype)
    scale = 40000 if dtype == "uint16" else 1
    for z, plane in enumerate(volume):
        of_plane = signal * attenuation ** depth[z] * brightness[z]
        values = of_plane * np.roll(speckle[z % 2], (z * 37, z * 91), (0, 1)) + 0.01
        plane[:] = np.minimum(values * scale, 65535 if dtype == "uint16" else np.inf)
    return xr.DataArray(volume, dims=("z", "y", "x"), coords={"section": ("z", section)})


def cases(da: xr.DataArray) -> list[Case]:
    """All rows of the table."""
    vol = da.to_numpy()
    mask = baseline.get_agarose_mask(vol)
    one = fast.normalize_volume(vol, mask)[0]
    tissue = np.broadcast_to(~mask, one.shape) & (one > 0)
    n = N_SECTIONS
    return [
        Case(
            "normalize_volume",
            lambda: fast.normalize_volume(vol, mask),
            lambda: baseline.normalize_volume(vol, mask),
            same=True,
        ),
        Case(
            "compute_scale_factors",
            lambda: fast.compute_scale_factors(one, n, 1.0, 80.0, 0.5, 2.0),
            lambda: baseline.compute_scale_factors(one, n),
            same=True,
        ),
        Case(
            "apply_histogram_matching",
            lambda: fast.apply_histogram_matching(one, n, 512),
            lambda: baseline.apply_histogram_matching(one, n),
            same=True,
        ),
        Case(
            "apply_zprofile_smoothing",
            lambda: fast.apply_zprofile_smoothing(one, tissue, 2.0),
            lambda: baseline.apply_zprofile_smoothing(one, tissue),
            same=True,
        ),
        Case("normalize(drift=None)", lambda: da.octnorm.normalize(drift=None), lambda: baseline.chain(vol, n)),
        Case("normalize(drift='scale')", lambda: da.octnorm.normalize(drift="scale"), lambda: baseline.chain(vol, n)),
        Case(
            "normalize(histogram, zprofile)",
            lambda: da.octnorm.normalize(drift="histogram", zprofile_sigma=2),
            lambda: baseline.chain(vol, n),
        ),
        Case(
            "normalize(joint, flatten_depth)",
            lambda: da.octnorm.normalize(drift="joint", flatten_depth=True),
            lambda: baseline.chain(vol, n),
        ),
    ]


def beside(da: xr.DataArray) -> dict[str, Callable[[], object]]:
    """What is timed without a plain-NumPy counterpart: other libraries, the labelled layer, the digest."""
    vol = da.to_numpy()
    mask = baseline.get_agarose_mask(vol)
    one = fast.normalize_volume(vol, mask)[0]
    sections = np.array_split(one, N_SECTIONS)
    rows: dict[str, Callable[[], object]] = {
        "`apply_histogram_matching`": lambda: fast.apply_histogram_matching(one, N_SECTIONS, 512),
        "scikit-image, `match_histograms` of every section to the volume": lambda: [
            match_histograms(section, one) for section in sections
        ],
    }
    if importlib.util.find_spec("SimpleITK") is not None:
        rows["SimpleITK, `HistogramMatching` of every section to the volume, 512 levels"] = partial(
            _by_simpleitk, one, sections
        )
    return rows | {
        "`get_agarose_mask` and `normalize_volume`": lambda: fast.normalize_volume(vol, fast.get_agarose_mask(vol)[0]),
        "`normalize(drift=None)`, with its digest": lambda: da.octnorm.normalize(drift=None),
        "digest alone, on one thread": lambda: [digest(plane, 0) for plane in vol],
    }


def _by_simpleitk(volume: np.ndarray, sections: list[np.ndarray]) -> list[np.ndarray]:
    import SimpleITK

    match = SimpleITK.HistogramMatchingImageFilter()
    match.SetNumberOfHistogramLevels(512)
    match.SetNumberOfMatchPoints(64)
    match.ThresholdAtMeanIntensityOff()
    reference = SimpleITK.GetImageFromArray(volume)
    return [SimpleITK.GetArrayFromImage(match.Execute(SimpleITK.GetImageFromArray(s), reference)) for s in sections]


def table_beside(n_voxels: int, threads: int) -> list[str]:
    """Rows of Markdown: nanoseconds per voxel of what is in `beside`."""
    da = make_volume(n_voxels, "float32")
    os.environ["XOCTNORM_NUM_THREADS"] = str(threads)
    rows = [
        f"\n{' x '.join(str(n) for n in da.shape)} voxels, {threads} threads\n",
        "| | ns per voxel |",
        "| --- | --: |",
    ]
    for name, function in beside(da).items():
        quick = name.startswith(("`", "digest"))
        if quick:
            function()
        rows.append(f"| {name} | {seconds(function, 5 if quick else 1) * 1e9 / da.size:.2f} |")
        print(rows[-1], flush=True)
    return rows


def seconds(function: Callable[[], object], runs: int) -> float:
    """Best time of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(function: Callable[[], object]) -> int:
    """Resident memory at its peak, beyond that before and beyond the arrays of the result (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed would hide what is needed
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = function()
    peak = _status("VmHWM") - before
    return peak - sum(getattr(part, "nbytes", 0) for part in (result if isinstance(result, tuple) else [result]))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def table(n_voxels: int, dtype: str, threads: list[int], runs: int) -> list[str]:
    """Rows of Markdown for one volume."""
    da = make_volume(n_voxels, dtype)
    per_voxel = 1e9 / da.size
    copy = seconds(partial(np.copyto, np.zeros(da.shape, dtype), da.to_numpy()), 5) * per_voxel
    rows = [
        f"\n{dtype}, {' x '.join(str(n) for n in da.shape)} voxels; np.copyto {copy:.2f} ns per voxel\n",
        "| | plain, ns per voxel | "
        + " | ".join(f"{n} thread{'s' * (n > 1)}, ns | ratio" for n in threads)
        + " | to np.copyto | extra memory, % of volume | MB |",
        "| --- |" + " --: |" * (4 + 2 * len(threads)),
    ]
    plain: dict[str, float] = {}
    for case in cases(da):
        key = "chain" if "normalize(" in case.name else case.name
        if key not in plain:
            plain[key] = seconds(case.plain, max(1, runs // 3)) * per_voxel
        cells = [f"{plain[key]:.1f}"]
        for n in threads:
            os.environ["XOCTNORM_NUM_THREADS"] = str(n)
            case.ours()
            ours = seconds(case.ours, runs) * per_voxel
            cells += [f"{ours:.2f}", f"{plain[key] / ours:.1f}"]
        extra = peak_bytes(case.ours)
        cells += [f"{ours / copy:.1f}", f"{100 * extra / da.nbytes:.1f}", f"{extra / 1e6:.0f}"]
        rows.append(f"| `{case.name}` | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, nargs="+", default=[22, 24, 26], help="sizes, as powers of two")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "uint16"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--beside", type=int, metavar="POWER", help="also time other libraries, on a volume of that size"
    )
    arguments = parser.parse_args()
    rows = []
    for dtype in arguments.dtypes:
        for power in arguments.voxels:
            rows += table(2**power, dtype, arguments.threads, arguments.runs)
    if arguments.beside:
        rows += table_beside(2**arguments.beside, max(arguments.threads))
    print(f"xoctnorm {xoctnorm.__version__}, NumPy {np.__version__}", *rows, sep="\n")


if __name__ == "__main__":
    main()
