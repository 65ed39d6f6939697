"""Memory and time of a volume larger than memory, against a plain copy in the same chunks.

    PYTHONPATH=tests python -m benchmarks.large make volume.zarr --sections 48
    PYTHONPATH=tests python -m benchmarks.large run volume.zarr result.zarr --drift scale
    PYTHONPATH=tests python -m benchmarks.large run volume.zarr copy.zarr --copy
    PYTHONPATH=tests python -m benchmarks.large run volume.zarr copy.zarr --copy --stored
    PYTHONPATH=tests python -m benchmarks.large run result.zarr copy.zarr --copy

The copy is compressed as results are, or with ``--stored`` not at all, as the volume is. That of a result compresses
what normalizing compresses: noise of a raw volume can hardly be compressed, and is given up soon.

Each run prints seconds, and the largest resident memory of its process. Limit the memory from outside, for instance
with ``prlimit --data=1500000000``, or ``systemd-run --scope -p MemoryMax=1500M -p MemorySwapMax=0``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings

import dask.array
import numpy as np
import xarray as xr

import xoctnorm
from xoctnorm.corrections.quantile import QuantileMatch
from xoctnorm.corrections.tissue_drift import METHODS as TISSUE_METHODS
from xoctnorm.phantom import make_phantom
from xoctnorm.zarr_chunks import compressors

PLANES, SIDE, CHUNK = 10, 2048, 512
FLATTENED = (*TISSUE_METHODS, QuantileMatch.name)  # with a mask for every section


def make(path: str, n_sections: int) -> None:
    """A phantom on disk, made and written a section at a time."""
    import zarr

    shape = n_sections * PLANES, SIDE, SIDE
    section = np.repeat(np.arange(n_sections), PLANES)
    empty = xr.DataArray(
        dask.array.zeros(shape, chunks=(PLANES, CHUNK, CHUNK), dtype="float32"),
        dims=("z", "y", "x"),
        coords={"z": ("z", 10.0 * np.arange(shape[0]), {"units": "um"}), "section": ("z", section)},
        name="volume",
    )
    empty.to_zarr(path, mode="w", compute=False, consolidated=False, encoding={"volume": {"compressors": None}})
    array = zarr.open(path)["volume"]
    for number in range(n_sections):
        others = [other for other in range(n_sections) if other != number]
        made = make_phantom(
            shape=(SIDE, SIDE), n_sections=n_sections, planes_per_section=PLANES, missing_sections=others, seed=1
        )
        array[number * PLANES : (number + 1) * PLANES] = made["volume"].to_numpy()
        print(f"section {number + 1} of {n_sections}", end="\r", file=sys.stderr)


def run(path: str, target: str, drift: str | None, copy: bool, stored: bool, workers: int) -> None:
    """Normalize, or copy, and say what it took."""
    da = xr.open_dataarray(path, engine="zarr", chunks={}, consolidated=False)
    chunks, to_netcdf = da.encoding["chunks"], target.endswith(".nc")
    start = time.perf_counter()
    fitted = start
    with dask.config.set(scheduler="threads", num_workers=workers), warnings.catch_warnings():
        warnings.simplefilter("ignore", xoctnorm.OctnormWarning)
        if copy and to_netcdf:
            zipped = {"zlib": not stored, "complevel": 1, "chunksizes": chunks}
            da.drop_encoding().to_netcdf(target, engine="netcdf4", encoding={da.name: zipped})
        elif copy:
            encoding = {da.name: {"compressors": None if stored else compressors(3), "chunks": chunks}}
            da.drop_encoding().to_zarr(target, mode="w", consolidated=False, encoding=encoding)
        else:
            settings = {"drift": None if drift == "none" else drift, "flatten_depth": drift in FLATTENED}
            result = da.octnorm.normalize(**settings, zprofile_sigma=2 if drift == "histogram" else 0)
            fitted = time.perf_counter()
            write = result.octnorm.to_netcdf if to_netcdf else result.octnorm.to_zarr
            write(target)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    chunk = PLANES * CHUNK**2 * 4
    masks = da.sizes["y"] * da.sizes["x"] * len(np.unique(da.section)) if drift in FLATTENED else 0
    stated = 450 + (workers * 8 * chunk + 32 * SIDE**2 + masks) / 1e6
    print(
        f"{'copy' if copy else drift} to {target.rsplit('.', 1)[-1]}: {end - start:.1f} s (fit {fitted - start:.1f}), "
        f"peak {peak:.0f} MB, stated {stated:.0f} MB, volume {da.nbytes / 1e9:.2f} GB"
    )


def main() -> None:
    """Make a volume, or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("path")
    making.add_argument("--sections", type=int, default=48)
    running = commands.add_parser("run")
    running.add_argument("path")
    running.add_argument("target")
    running.add_argument("--drift", default="scale")
    running.add_argument("--copy", action="store_true")
    running.add_argument("--stored", action="store_true")
    running.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.path, arguments.sections)
    else:
        run(arguments.path, arguments.target, arguments.drift, arguments.copy, arguments.stored, arguments.workers)


if __name__ == "__main__":
    main()
