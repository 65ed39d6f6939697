"""What a volume of many chunks costs the client and the scheduler of a cluster; there are no data on disk.

    PYTHONPATH=tests python -m benchmarks.tasks 2000 20000

Chunks are small, and two make a plane. For each number of chunks: CPU time of the client to submit
chunks, and in all, for each chunk and read; memory that the scheduler takes for each chunk, while a read goes on.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import dask.array
import numpy as np
import xarray as xr
from distributed import Client

from xoctnorm import cluster

SIDE, DEPTH = 32, 20


def planes(block_info: dict) -> np.ndarray:
    """Noise around bright tissue, which is on the left."""
    (start, stop), _, (left, _) = block_info[None]["array-location"]
    values = np.random.default_rng(start).random((stop - start, SIDE, SIDE), dtype="float32")
    return values + np.float32(3 if left == 0 else 0)


def volume(n_chunks: int) -> xr.DataArray:
    """Planes of two chunks."""
    n_z = n_chunks // 2
    data = dask.array.map_blocks(
        planes, chunks=((1,) * n_z, SIDE, (SIDE, SIDE)), dtype="float32", meta=np.empty((0, 0, 0))
    )
    return xr.DataArray(
        data.astype("float32"), dims=("z", "y", "x"), coords={"section": ("z", np.arange(n_z) // DEPTH)}
    )


def memory(process: subprocess.Popen[str], what: str) -> float:
    """Resident memory of a process in MB; `VmHWM` is the peak."""
    return int(re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1000


def main() -> None:
    """Measure, each number of chunks with a scheduler of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", type=int, nargs="+")
    warnings.simplefilter("ignore")
    for n_chunks in parser.parse_args().chunks:
        start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
        start += ["--scheduler-file", f"scheduler-{n_chunks}.json"]
        scheduler = subprocess.Popen(start, stderr=subprocess.DEVNULL)
        file = Path(f"scheduler-{n_chunks}.json")
        while not file.exists():
            time.sleep(0.1)
        call = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-dashboard"]
        worker = subprocess.Popen([*call, "--nthreads", "2", "--no-nanny"], stderr=subprocess.DEVNULL)
        try:
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(1)
                measure(n_chunks, scheduler)
        finally:
            for process in (worker, scheduler):
                process.terminate()
                process.wait()
            file.unlink(missing_ok=True)  # which the scheduler removes, where it has the time


def measure(n_chunks: int, scheduler: subprocess.Popen[str]) -> None:
    """Fit, and print what it took."""
    submitted: list[float] = []
    futures = cluster._futures

    def timed(client: Client, tasks: list) -> list:
        before = time.process_time()
        found = futures(client, tasks)
        submitted.append(time.process_time() - before)
        return found

    cluster._futures = timed
    before, memory_before, start = time.process_time(), memory(scheduler, "VmRSS"), time.perf_counter()
    da = volume(n_chunks)
    da.octnorm.fit(drift=None)
    cluster._futures = futures
    cpu, seconds = time.process_time() - before, time.perf_counter() - start
    peak = memory(scheduler, "VmHWM")
    times = n_chunks * da.octnorm.plan(drift=None).fit_reads
    print(
        f"{n_chunks} chunks: client ms to submit a chunk and read {1000 * sum(submitted) / times:.3f}; CPU in all "
        f"{1000 * cpu / times:.3f} ms a chunk and read; scheduler {memory_before:.0f} to "
        f"{peak:.0f} MB, {1000 * (peak - memory_before) / n_chunks:.1f} kB a chunk; {seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
