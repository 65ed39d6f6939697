"""Kernels and whole calls on a graphics processor: time by events of the device, share of its memory bandwidth.

``PYTHONPATH=tests python -m benchmarks.gpu [--megavoxels 64]``; says what is missing where there is no device.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import array_api_compat
import numpy as np
import xarray as xr

import xoctnorm  # noqa: F401
from xoctnorm import gpu
from xoctnorm.kernels import backend, generic, order_statistics
from xoctnorm.kernels.background import background_steps
from xoctnorm.kernels.histograms import Mapping, bin_centers, histogram
from xoctnorm.kernels.steps import take
from xoctnorm.phantom import make_phantom


def seconds(function: Callable[[], Any], repeats: int = 10) -> float:
    """Median of times by events of the device, after one call that compiles."""
    import cupyx.profiler

    return float(np.median(cupyx.profiler.benchmark(function, n_repeat=repeats, n_warmup=1).gpu_times))


def bandwidth() -> float:
    """Bytes per second of a copy on the device, read and written."""
    import cupy

    one = cupy.zeros(2**28, np.uint8)
    other = cupy.empty_like(one)
    return 2 * one.nbytes / seconds(lambda: cupy.copyto(other, one))


def kernels(plane: Any) -> dict[str, tuple[Callable[[], Any], int]]:
    """Calls on one plane, and how many bytes a perfect one would move."""
    xp = backend.namespace(plane)
    out, agarose, n = xp.empty_like(plane), plane < 0.3, plane.nbytes
    centers = bin_centers(512, 0.0)
    mapping = Mapping.of(np.linspace(0, 1, 512)[None] ** 1.1, centers, 0.0)
    return {
        "floor and cap": (lambda: order_statistics.plane_thresholds(plane, agarose, 99.9), n),
        "background": (lambda: take(background_steps(0.1, 0.9, 0.8), plane, out), 2 * n),
        "histogram": (lambda: histogram(plane, 512, 0.0), n),
        "map by histogram": (lambda: take(mapping.steps(0), plane, out), 2 * n),
        "digest": (lambda: generic.sum_of_words(plane.reshape(-1).view(np.uint32), 0), n),
    }


def calls(volume: xr.DataArray) -> dict[str, Callable[[], Any]]:
    """Whole calls on a volume."""
    return {f"normalize(drift={drift!r})": lambda drift=drift: volume.octnorm.normalize(drift=drift)
            for drift in (None, "scale", "histogram", "quantile", "joint")}  # fmt: skip


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megavoxels", type=float, default=64)
    megavoxels = parser.parse_args().megavoxels
    missing = gpu.lacking()
    if missing is not None:
        sys.exit(f"no device figures: {missing}")
    import cupy

    found: list[int] = []
    plain = array_api_compat.to_device
    array_api_compat.to_device = lambda values, device: (found.append(values.size), plain(values, device))[1]
    best, name = bandwidth(), gpu.circumstance(xr.Variable("x", cupy.zeros(1)), False)["device"]
    print(f"{name}, {best / 1e9:.0f} GB/s by a copy")
    for side in (1024, 2048):
        plane = cupy.random.default_rng(0).gamma(3, 0.1, (side, side)).astype(np.float32)
        for label, (call, moved) in kernels(plane).items():
            time = seconds(call)
            print(f"{label:24} {side} x {side}: {1e6 * time:8.0f} us, {moved / time / best:6.1%} of the bandwidth")
    side = int((megavoxels * 1e6 / 120) ** 0.5)
    volume = make_phantom(shape=(side, side), n_sections=8, planes_per_section=15)["volume"]
    there = volume.copy(data=cupy.asarray(volume.to_numpy()))
    for (label, on_device), on_cpu in zip(calls(there).items(), calls(volume).values(), strict=True):
        found.clear()
        on_device()
        crossed = sum(found), len(found)
        time = seconds(on_device, 3)
        start = perf_counter()
        on_cpu()
        cpu = perf_counter() - start
        share = crossed[0] / volume.size
        print(
            f"{label:28} {volume.size / time / 1e6:8.0f} Mvoxel/s, {cpu / time:5.1f} times the CPU; "
            f"{crossed[0]} numbers in {crossed[1]} transfers, {share:.2%} of the volume"
        )


if __name__ == "__main__":
    main()
