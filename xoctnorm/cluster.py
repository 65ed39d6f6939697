"""Reading on a cluster: planes are looked at where they are loaded, and only what is found comes back."""

from __future__ import annotations

import sys
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.blocks import Place
from xoctnorm.transfers import Job, Look


def client_of(data: xr.Variable) -> Any | None:
    """The client of the cluster that would compute a chunked Variable; None where this machine does."""
    if data.chunks is None or "distributed" not in sys.modules:
        return None
    from dask.base import get_scheduler
    from distributed import Client

    owner = getattr(get_scheduler(collections=[data.data]), "__self__", None)
    return owner if isinstance(owner, Client) else None


def looked_at_by_workers(
    client: Any, look: Look, data: xr.Variable, jobs: Mapping[Place, Iterable[Job]]
) -> Iterator[Any]:
    """What is found in planes, in their order, by the workers that load them; `jobs` of every run are given."""
    from dask import delayed

    blocks = _blocks(data, [place[-1] for place in jobs if not any(place[:-1])])
    look_once, once = _once(look), _Once()
    tasks = []
    for block, of_run in zip(blocks, jobs.values(), strict=True):
        some = [job._replace(beside=[once(values) for values in job.beside]) for job in of_run]
        if some:
            tasks.append(delayed(_looked_at, pure=False)(look_once, block, some))
    return (found for of_run in results(client, tasks) for found in of_run)


def results(client: Any, tasks: list[Any]) -> Iterator[Any]:
    """Results of tasks in their order; each is forgotten when the next is asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # masks: they are sent once
        futures = client.compute(tasks)
    futures.reverse()
    while futures:
        yield futures.pop().result()


def _looked_at(look: Look, block: NDArray[np.generic], jobs: list[Job]) -> list[Any]:
    return [look.at((job, block[job.at])) for job in jobs]


def _blocks(data: xr.Variable, along_z: list[slice]) -> list[Any]:
    """Runs of planes `(z, y, x)` as delayed arrays, in plane order."""
    from dask import delayed

    array: Any = data.data
    n_outer = array.ndim - 3
    chunks = [(1,) * n for n in array.shape[:n_outer]]
    array = array.rechunk((*chunks, tuple(one.stop - one.start for one in along_z), -1, -1))
    blocks: list[Any] = array.to_delayed().reshape(-1).tolist()
    return blocks if not n_outer else [delayed(_without_outer)(block) for block in blocks]


def _without_outer(block: NDArray[np.generic]) -> NDArray[np.generic]:
    return block.reshape(block.shape[-3:])


def _once(value: Any) -> Any:
    """A value that many tasks need, sent to the cluster once."""
    from dask import delayed

    return delayed(value, name=f"{type(value).__name__.lower()}-{uuid.uuid4()}", traverse=False)


class _Once:
    """Arrays that many planes share, as masks of sections."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}

    def __call__(self, values: NDArray[np.generic]) -> Any:
        address = values.__array_interface__["data"][0]
        if address not in self._known:
            self._known[address] = values, _once(values)  # kept, so that no other comes to lie there
        return self._known[address][1]
