"""Kill writers of Zarr stores at every step and at random moments, and look at what is there after each kill.

    python tests/killing.py FOLDER to_zarr|to_ome_zarr SEED

Writers and onlookers are forked, so that each begins within milliseconds. A failed check ends the program.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dask
import dask.array
import distributed  # noqa: F401  (what is imported here, no fork has to import)
import numcodecs  # noqa: F401
import numpy as np
import xarray as xr
import zarr
from fsspec.implementations.local import LocalFileSystem

import xoctnorm.formats.labelled
import xoctnorm.formats.ome
import xoctnorm.zarr_volume
from xoctnorm import pieces

SHAPE = (48, 20, 24)
DEPTH = 4
pieces._CHUNK_PLANES, pieces._CHUNK_BYTES = DEPTH, 2000
pieces._PIECE_BYTES = DEPTH * 20 * 24 * 4
METHOD = sys.argv[2]
os.fsync = lambda descriptor: None  # a killed process loses nothing that it wrote


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE, dtype=np.float32)


def volume(seed: int, log: Path) -> xr.DataArray:
    """A volume that takes its time, and notes every block that is computed."""
    whole = values(seed)

    def block(block_info):
        start, stop = block_info[None]["array-location"][0]
        time.sleep(0.002)
        with log.open("a") as file:
            file.write(f"{start}\n")
        return whole[start:stop]

    data = dask.array.map_blocks(block, chunks=((DEPTH,) * (SHAPE[0] // DEPTH), SHAPE[1:2], SHAPE[2:]), dtype="float32")
    labels = {"section": ("z", np.repeat(np.arange(4), 12)), "background_threshold": ("z", np.arange(48.0))}
    return xr.DataArray(data, dims=("z", "y", "x"), coords=labels, name="brain")


def write(target: Path, seed: int) -> None:
    with dask.config.set(scheduler="threads", num_workers=2):
        getattr(volume(seed, target.parent / "log").octnorm, METHOD)(target, overwrite=True)


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(step: int) -> Callable[[], int]:
    """Let this process die before or after its `step`-th change of files; return what counts them."""
    done = 0

    def counting(function):
        def counted(*args, **kwargs):
            nonlocal done
            for moment in ("before", "after"):
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                if moment == "before":
                    result = function(*args, **kwargs)
            return result

        return counted

    for owner, name in ((Path, "replace"), (Path, "write_bytes"), (LocalFileSystem, "rm")):
        setattr(owner, name, counting(getattr(owner, name)))
    return lambda: done


def look(target: Path, old: int | None, new: int) -> None:
    """Whatever opens is whole: at the target the old or the new, elsewhere the new."""
    partial = Path(f"{target}.partial")
    found = {path: opened(path) for path in (target, partial, partial / "store", partial / "replaced")}
    wholes = [values(seed) for seed in (old, new) if seed is not None]
    for path, array in found.items():
        assert array is None or any(np.array_equal(array, whole) for whole in wholes), f"{path} opens with other values"
    assert old is None or any(array is not None for array in found.values()), "nothing is whole"
    if partial.exists() and target.exists():
        assert not (partial / "replaced" / "zarr.json").exists() or np.array_equal(found[target], values(new))


def opened(path: Path) -> np.ndarray | None:
    """What plain xarray, or Zarr, sees at a path."""
    try:
        if METHOD == "to_zarr":
            with xr.open_dataarray(path, engine="zarr") as da:
                assert da.section.values.tolist() == np.repeat(np.arange(4), 12).tolist()
                return da.values
        return zarr.open_group(path, mode="r")["0"][:]
    except FileNotFoundError:
        return None


def finished(target: Path, new: int) -> None:
    da = xoctnorm.open_volume(target)
    np.testing.assert_array_equal(da.values, values(new))
    np.testing.assert_array_equal(da.background_threshold.values, np.arange(48.0))
    assert not Path(f"{target}.partial").exists()


def check(work: Callable[[], None]) -> None:
    assert wait(forked(work)) == 0


def at_every_step(folder: Path, old: int | None) -> tuple[int, int]:
    """Kill at some steps of writing, and at all of the last, when names change.

    Returns how many these were, and after how many of them the last call had less to do.
    """
    count = folder / f"steps-{old}"

    def counted() -> None:
        steps = kill_at(-1)
        if old is not None:
            write(folder / f"whole-{old}.zarr", old)
            shutil.copytree(folder / f"whole-{old}.zarr", folder / "old.zarr")
        before = steps()
        write(folder / f"whole-{old}.zarr", 2)
        count.write_text(str(steps() - before))

    check(counted)
    n_steps = int(count.read_text())
    steps = [*range(0, n_steps - 16, n_steps // 5), *range(n_steps - 16, n_steps)]
    log, resumed = folder / "log", 0
    for step in steps:
        target = folder / f"step{step}-{old}.zarr"
        if old is not None:
            shutil.copytree(folder / "old.zarr", target)
        code = wait(forked(lambda target=target, step=step: (kill_at(step), write(target, 2))))
        assert code == -signal.SIGKILL, code
        log.write_text("")
        check(lambda target=target: (look(target, old, 2), write(target, 2), finished(target, 2)))
        resumed += len(log.read_text().split()) < SHAPE[0] // DEPTH
    return len(steps), resumed


def at_random(folder: Path, rng: random.Random, lasting: float, old: int | None) -> int:
    """Kill the writer of one store again and again; return how often."""
    target = folder / f"random{rng.random()}" / "brain.zarr"
    target.parent.mkdir()
    if old is not None:
        shutil.copytree(folder / "old.zarr", target)
    for kills in range(12):  # noqa: B007
        child = forked(lambda: write(target, 2))
        time.sleep(rng.uniform(0, lasting))
        os.kill(child, signal.SIGKILL)
        if wait(child) == 0:  # it was quicker
            break
        check(lambda: look(target, old, 2))
    check(lambda: (write(target, 2), finished(target, 2)))
    return kills


def main(folder: Path) -> None:
    """Print numbers of kills: at steps, at random moments, and stores that went on from where they were."""
    at_steps, resumed = np.sum([at_every_step(folder, old) for old in (None, 1)], axis=0)
    start = time.perf_counter()
    check(lambda: write(folder / "timed.zarr", 2))
    lasting, rng = time.perf_counter() - start, random.Random(int(sys.argv[3]))
    kills = 0
    while kills < 24:
        kills += at_random(folder, rng, lasting, (None, 1)[kills % 2])
    print(at_steps, kills, resumed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
