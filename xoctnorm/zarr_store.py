"""Zarr stores that are written piece after piece, that resume, and that open only when they are whole.

What tells readers that a folder is a Zarr store is its root metadata, and that is written last. How far the rest
is, says the sibling `NAME.partial`:

    NAME.partial/plan.json     identity of what is written, pieces, and the metadata that come last
    NAME.partial/done/…        one file for each piece that is complete
    NAME.partial/store/…       the store itself, which is renamed to NAME; stores that cannot rename have it at NAME
    NAME.partial/writing/…    chunks of it that are not yet whole
    NAME.partial/replaced/…    what was at NAME, while the names are changed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xarray as xr

from xoctnorm import progress
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.digest import MODULUS
from xoctnorm.pending import pending_digests, with_digests
from xoctnorm.pieces import Region, pieces
from xoctnorm.provenance import ATTRIBUTE, steps_of
from xoctnorm.zarr_chunks import Chunks
from xoctnorm.zarr_place import Place

if TYPE_CHECKING:
    from dask.array import Array


@dataclass(frozen=True)
class Contents:
    """What goes into a store.

    Attributes
    ----------
    documents
        Metadata and small arrays, as bytes under their keys.
    ends
        Where the pieces along z end.
    identity
        What must be the same where an interrupted call goes on.
    blocks
        Gives of a piece the values of every large array, chunked, by its path in the store.
    """

    documents: Mapping[str, bytes]
    ends: list[int]
    identity: Mapping[str, Any]
    blocks: Callable[[Region], dict[str, xr.Variable]]

    def last(self) -> list[str]:
        """Documents that come last: those that hold the record, which digests are added to, and then the root."""
        records = [
            key
            for key, value in self.documents.items()
            if key.endswith(("/zarr.json", "/.zattrs")) and ATTRIBUTE.encode() in value
        ]
        root = sorted((key for key in self.documents if "/" not in key), key=lambda key: (key == ".zgroup", key))
        return records + root


def write_store(call: str, volume: xr.DataArray, contents: Contents, place: Place) -> None:
    """Write a store, or go on where an earlier call stopped."""
    plan = _plan(call, contents, place)
    try:
        with progress.job("write", sum(1 for _ in pieces(volume.sizes, plan["ends"]))):
            done = _write_pieces(volume, contents, plan, place)
        _finish(plan, done, place)
    except OSError as error:
        message = (
            f"writing failed ({error}). What is written so far is kept in {place.partial!r}: make room, or mend what "
            "is wrong, and repeat the call, which goes on from there"
        )
        raise OSError(error.errno, message, place.target) from error


def _plan(call: str, contents: Contents, place: Place) -> dict[str, Any]:
    """The plan of an earlier call, where it is for the same volume, or a new one."""
    identity = json.loads(json.dumps(contents.identity))
    former = place.read_json("plan.json")
    if former is not None and place.read_json("done/documents.json") is not None:
        different = _differences(former["identity"], identity)
        if different:
            problem = (
                f"{place.partial!r} is what an interrupted call has written so far, of another volume or by another "
                f"call: {listed(different)}. Call it as then to go on, or remove that folder to begin anew"
            )
            raise_problems(call, [problem])
        earlier: dict[str, Any] = former
        return earlier

    place.clear()
    last = {key: contents.documents[key].decode() for key in contents.last()}
    plan = {"identity": identity, "ends": contents.ends, "last": last}
    place.note("plan.json", plan)
    for key, value in contents.documents.items():
        if "/" in key:
            place.put(f"{place.data}/{key}", value)
    place.note("done/documents.json", {})
    return plan


def _differences(then: Any, now: Any, path: str = "") -> list[str]:
    """What differs between two identities, with the place of each in them."""
    if isinstance(then, dict) and isinstance(now, dict):
        found = []
        for key in dict.fromkeys([*then, *now]):
            found += _differences(then.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        return found
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [
            text for n, (a, b) in enumerate(zip(then, now, strict=True)) for text in _differences(a, b, f"{path}[{n}]")
        ]
    return [] if then == now else [f"{path} is {now!r} and was {then!r}"]


def _write_pieces(
    volume: xr.DataArray, contents: Contents, plan: Mapping[str, Any], place: Place
) -> list[dict[str, int]]:
    """Write what is missing; return of every piece what it adds to digests that the record awaits, by step."""
    import dask
    import dask.array
    import zarr

    steps = {step["applied_to"].get("awaits"): n for n, step in enumerate(steps_of(volume.attrs)) if step["applied_to"]}
    arrays: dict[str, Chunks] = {}
    done = []
    waiting: Future[None] | None = None
    with ThreadPoolExecutor(1) as beside:  # the disk has a piece to itself while the next is computed
        for number, region in enumerate(pieces(volume.sizes, plan["ends"])):
            name = f"done/{number:06}.json"
            words = place.read_json(name)
            if words is None:
                blocks = contents.blocks(region)
                for path in blocks.keys() - arrays.keys():
                    arrays[path] = Chunks(place, zarr.open_array(place.store, path=path, mode="r+"))
                sources: list[Array] = [
                    block.chunk(_whole_chunks(block, arrays[path].chunks)).data.astype(arrays[path].dtype)
                    for path, block in blocks.items()
                ]
                regions = [tuple(region.get(dim, slice(None)) for dim in block.dims) for block in blocks.values()]
                targets: list[Any] = [arrays[path] for path in blocks]
                stored = dask.array.store(sources, targets, regions=regions, lock=False, compute=False)
                _, counted = dask.compute(stored, pending_digests(volume, region))
                words = {str(steps[awaited]): int(parts.sum()) for awaited, parts in counted.items()}
                if waiting is not None:
                    waiting.result()
                keys = [key for array, at in zip(targets, regions, strict=True) for key in array.keys(at)]
                waiting = beside.submit(_settle, place, keys, name, words)
            done.append(words)
            progress.advance()
        if waiting is not None:
            waiting.result()
    return done


def _settle(place: Place, keys: Sequence[str], name: str, words: Mapping[str, int]) -> None:
    """Note that a piece is complete, once its chunks are on the disk."""
    place.sync(keys)
    place.note(name, words)


def _whole_chunks(block: xr.Variable, chunks: tuple[int, ...]) -> dict[Any, int]:
    """Lengths for the chunks of a piece that are whole chunks of the file, which no two tasks may write to."""
    return {
        dim: -(-max(block.chunksizes[dim]) // length) * length for dim, length in zip(block.dims, chunks, strict=True)
    }


def _finish(plan: Mapping[str, Any], done: list[dict[str, int]], place: Place) -> None:
    """Add digests to the record, write the root metadata, and let the store take its name."""
    counted = set.intersection(*(set(words) for words in done)) if done else set()
    totals = {step: sum(words[step] for words in done) % MODULUS for step in counted}
    for key, text in plan["last"].items():
        place.put(f"{place.data}/{key}", json.dumps(_with_totals(json.loads(text), totals)).encode())
    place.rename()
    place.close()


def _with_totals(node: Any, totals: Mapping[str, int]) -> Any:
    """Metadata with digests where a record awaits them: consolidated metadata hold it a second time."""
    if not isinstance(node, dict):
        return node
    changed = {key: _with_totals(value, totals) for key, value in node.items()}
    if isinstance(changed.get(ATTRIBUTE), str):
        steps = steps_of(changed)
        awaited = {steps[int(step)]["applied_to"].get("awaits"): total for step, total in totals.items()}
        changed[ATTRIBUTE] = with_digests(changed[ATTRIBUTE], awaited)
    return changed
