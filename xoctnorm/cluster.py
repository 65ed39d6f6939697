"""Reading on a cluster: planes are looked at where they are loaded, and only what is found comes back."""

from __future__ import annotations

import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.blocks import places, runs
from xoctnorm.kernels.order_statistics import spread_of_part
from xoctnorm.kernels.section_images import SectionImages
from xoctnorm.statistics import StripSurvey, Survey, put_together, sampled_step, whole_images
from xoctnorm.transfers import Fold, Job, Look

_GLANCE, _PATIENCE = 5.0, 60.0  # seconds between looks at a cluster, and without workers until it is given up
_AHEAD_BYTES = 2**30


def client_of(array: Any) -> Any | None:
    """The client of the cluster that would compute a dask array; None where this machine does."""
    if "distributed" not in sys.modules:
        return None
    from dask.base import get_scheduler
    from distributed import Client

    owner = getattr(get_scheduler(collections=[array]), "__self__", None)
    return owner if isinstance(owner, Client) else None


def looked_at_by_workers(client: Any, look: Look, data: xr.Variable, jobs: Iterable[Iterable[Job]]) -> Iterator[Any]:
    """What is found in planes, in their order, by the workers that load them; `jobs` of every run are given."""
    from dask import delayed

    blocks = _blocks(data, list(runs(data)))
    look_once, once = _once(look), _Once()
    tasks = []
    for block, of_run in zip(blocks, jobs, strict=True):
        some = [job._replace(beside=[once(values) for values in job.beside]) for job in of_run]
        if some:
            tasks.append(delayed(_looked_at, pure=False)(look_once, block, some))
    for of_run in results(client, tasks):
        progress.advance(len(of_run))
        yield from of_run


def folded_by_workers(
    client: Any, look: Look, data: xr.Variable, jobs: Iterable[Iterable[Job]], state: Fold[Any, Any]
) -> Iterator[Any]:
    """What a state leaves of what is found in planes, which goes from one worker to the next, never to the client."""
    from dask import delayed

    blocks, look_once, once = _blocks(data, list(runs(data))), _once(look), _Once()
    tasks, state_so_far = [], _once(state)
    for block, of_run in zip(blocks, jobs, strict=True):
        some = [job._replace(beside=[once(values) for values in job.beside]) for job in of_run]
        found = delayed(_looked_at, pure=False)(look_once, block, some)
        both = delayed(_folded, pure=False)(state_so_far, found, [job.number for job in some])
        state_so_far = both[0]
        tasks.append(both[1])
    for of_run in results(client, tasks):
        progress.advance(len(of_run))
        yield from of_run


def _folded(state: Fold[Any, Any], found: list[Any], numbers: list[int]) -> tuple[Fold[Any, Any], list[Any]]:
    """The state with what was found in some more planes, and what it leaves of that."""
    state = deepcopy(state)  # a task that is tried again must find it as it was
    return state, [state.add(number, one) for number, one in zip(numbers, found, strict=True)]


def surveyed_by_workers(
    client: Any,
    data: xr.Variable,
    start: int,
    section_index: NDArray[np.int64] | None,
    outside: NDArray[np.bool_] | None,
    *,
    sampled: bool = False,
) -> Survey:
    """Survey of a volume, as by `statistics.survey`: planes are added in their order, strips of rows side by side.

    Workers load faster than planes are added one after the other: of what is loaded, two runs for each thread are in
    their memory at most.
    """
    from dask import delayed

    stops = np.cumsum(data.chunks[-2]).tolist()  # type: ignore[index]
    rows = [slice(*ends) for ends in zip([0, *stops[:-1]], stops, strict=True)]
    n_y, n_x = data.shape[-2:]
    starts, step = [some.start * n_x for some in rows], sampled_step(int(np.prod(data.shape)))
    new = delayed(StripSurvey, pure=False)
    states = [new(some, data.shape[-2:], data.dtype, section_index) for some in rows]
    outside_once = None if outside is None else _once(outside)
    first, waiting, runs_ahead = 0, deque[Any](), 2 * max(1, sum(client.nthreads().values()))
    samples: list[NDArray[np.generic]] = []
    images = None if section_index is None else SectionImages(int(section_index.max()) + 1)

    def take_next() -> None:
        n_planes, parts, of_run = _awaited(client, waiting.popleft())
        progress.advance(n_planes)
        samples.extend(np.concatenate(of_plane) for of_plane in zip(*parts, strict=True))
        if images is not None:
            images.extend(of_run)

    for place in places(data):
        if len(waiting) == runs_ahead:
            take_next()
        planes = data[place]
        blocks = _blocks(planes, [(0, len(planes))], data.chunks[-2])  # type: ignore[index]
        pairs = zip(states, blocks, strict=True)
        added = [delayed(_added, pure=False)(state, block, first, start) for state, block in pairs]
        of_run = (
            len(planes),
            [
                delayed(_samples, pure=False)(block, at, n_y * n_x, step, first)
                for at, block in zip(starts, blocks, strict=True)
                if sampled
            ],
            None if section_index is None else delayed(_images)([one[1] for one in added], outside_once),
        )
        of_this, *states = _futures(client, [delayed(of_run), *(one[0] for one in added)])
        waiting.append(of_this)
        first += len(planes)
    while waiting:
        take_next()
    of_strips = results(client, [delayed(StripSurvey.found, pure=False)(state) for state in states])
    return put_together(list(of_strips), samples, images, outside)


def _added(
    state: StripSurvey, strip_of_planes: NDArray[np.generic], first: int, start: int
) -> tuple[StripSurvey, list[NDArray[np.float32]]]:
    """The survey with some more planes, and images of the sections that are complete."""
    state = deepcopy(state)  # a task that is tried again must find it as it was
    state.add(strip_of_planes, first, start)
    return state, state.sections.taken()


def _images(of_strips: list[list[NDArray[np.float32]]], outside: NDArray[np.bool_] | None) -> SectionImages:
    images = SectionImages(len(of_strips[0]))
    images.extend(whole_images(of_strips, outside))
    return images


def _samples(
    strip_of_planes: NDArray[np.generic], start: int, n_pixels: int, step: int, first: int
) -> list[NDArray[np.generic]]:
    return [
        spread_of_part(strip, start, n_pixels, step, number).copy()
        for number, strip in enumerate(strip_of_planes, first)
    ]


def results(client: Any, tasks: list[Any]) -> Iterator[Any]:
    """Results of tasks in their order; each is forgotten when the next is asked for.

    A cluster that has had no worker for a minute is given up with a RuntimeError.
    """
    futures = _futures(client, tasks)
    futures.reverse()
    while futures:
        yield _awaited(client, futures.pop())


def _futures(client: Any, tasks: list[Any]) -> list[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # masks: they are sent once
        futures: list[Any] = client.compute(tasks)
    return futures


def _awaited(client: Any, future: Any) -> Any:
    from distributed import wait

    last_seen = time.monotonic()
    while True:
        try:
            wait(future, timeout=_GLANCE)
            return future.result()  # which may raise what the task raised, a TimeoutError too
        except TimeoutError:
            if future.done():
                raise
            if _has_workers(client):
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > _PATIENCE:
                raise RuntimeError(
                    f"the cluster has had no worker for {_PATIENCE:.0f} s: start workers, or close its client, and "
                    "call again"
                ) from None


def _has_workers(client: Any) -> bool:
    try:
        return client.status == "running" and bool(client.nthreads())
    except (OSError, TimeoutError):
        return False


def blocks_in_order(client: Any, array: Any) -> Iterator[tuple[tuple[slice, ...], NDArray[np.generic]]]:
    """Chunks of a dask array and their places, one after the other; workers compute some ahead, never all."""
    from dask.array.core import slices_from_chunks

    blocks = array.to_delayed().reshape(-1).tolist()
    places = slices_from_chunks(array.chunks)
    ahead = max(1, _AHEAD_BYTES // max(1, array.itemsize * int(np.prod(array.chunksize))))
    for at in range(0, len(blocks), ahead):
        yield from zip(places[at : at + ahead], results(client, blocks[at : at + ahead]), strict=True)


def _looked_at(look: Look, block: NDArray[np.generic], jobs: list[Job]) -> list[Any]:
    return [look.at((job, block[job.at])) for job in jobs]


def _blocks(data: xr.Variable, along_z: list[tuple[int, int]], along_y: tuple[int, ...] | int = -1) -> list[Any]:
    """Runs of planes `(z, y, x)`, or strips of them, as delayed arrays, in plane order."""
    from dask import delayed

    array: Any = data.data
    n_outer = array.ndim - 3
    chunks = [(1,) * n for n in array.shape[:n_outer]]
    array = array.rechunk((*chunks, tuple(high - low for low, high in along_z), along_y, -1))
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
