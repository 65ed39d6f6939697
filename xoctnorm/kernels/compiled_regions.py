"""Compiled loops over pixels and their neighbours; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, Number, _index, compiled
from xoctnorm.kernels.prefetch import BLOCK, fetch

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

ACROSS = np.float64(np.float32(0.7))  # weight of a neighbour over a corner


@compiled
def flood(surface: Image, start: Bool) -> Image:
    """Lowest level that has to be passed on a way to every pixel, over sides and corners, from the nearest `start`.

    One sweep down and one up, then on from the few pixels from which a neighbour may still sink, first come, first
    served (Vincent's hybrid reconstruction).
    """
    n_y, n_x = surface.shape
    width = n_x + 2
    level = np.full((n_y + 2) * width, np.float32(np.inf))
    ground = level.copy()
    for y in range(n_y):
        for x in range(n_x):
            ground[(y + 1) * width + x + 1] = surface[y, x]
            if start[y, x]:
                level[(y + 1) * width + x + 1] = surface[y, x]
    waiting, is_waiting = np.empty(n_y * n_x + 1, np.int64), np.zeros(level.size, np.bool_)
    first = last = 0
    for y in range(1, n_y + 1):
        for i in range(y * width + 1, y * width + 1 + n_x):
            up = i - width
            above = min(min(level[up - 1], level[up]), min(level[up + 1], level[i - 1]))
            level[i] = min(max(above, ground[i]), level[i])
    for y in range(n_y, 0, -1):
        for i in range(y * width + n_x, y * width, -1):
            down = i + width
            below = min(min(level[down - 1], level[down]), min(level[down + 1], level[i + 1]))
            level[i] = min(max(below, ground[i]), level[i])
            for place in (i + 1, down - 1, down, down + 1):
                if max(level[i], ground[place]) < level[place]:
                    waiting[last], is_waiting[i] = i, True
                    last += 1
                    break
    while first != last:
        here = waiting[_index(first)]
        first = first + 1 if first + 1 < waiting.size else 0
        is_waiting[_index(here)] = False
        for row in (-width, 0, width):
            for place in range(here + row - 1, here + row + 2):
                beside = _index(place)
                lowest = max(level[_index(here)], ground[beside])
                if lowest < level[beside]:
                    level[beside] = lowest
                    if not is_waiting[beside]:
                        waiting[_index(last)], is_waiting[beside] = place, True
                        last = last + 1 if last + 1 < waiting.size else 0
    return level.reshape(n_y + 2, width)[1:-1, 1:-1].copy()


@compiled
def weigh_neighbours(belief: Image, evidence: Image, weighed: Image) -> None:
    """Half of the evidence and of what the eight neighbours believe, corners less, borders being repeated outwards."""
    n_y, n_x = belief.shape
    for y in range(n_y):
        up, row, down = belief[max(y - 1, 0)], belief[y], belief[min(y + 1, n_y - 1)]
        told, out = evidence[y], weighed[y]
        for x in range(1, n_x - 1):
            out[_index(x)] = (told[_index(x)] + _around(up, row, down, x - 1, x, x + 1)) / np.float32(2)
        for x in (0, n_x - 1):  # apart, so that the rest is made of vector instructions
            out[x] = (told[x] + _around(up, row, down, max(x - 1, 0), x, min(x + 1, n_x - 1))) / np.float32(2)


@compiled
def _around(up: Floats, row: Floats, down: Floats, left: int, x: int, right: int) -> np.float32:
    """What the neighbours of a pixel believe together."""
    around = ACROSS * up[_index(left)]
    around += up[_index(x)]
    around += ACROSS * up[_index(right)]
    around += row[_index(left)]
    around += row[_index(right)]
    around += ACROSS * down[_index(left)]
    around += down[_index(x)]
    around += ACROSS * down[_index(right)]
    return np.float32(around)


@compiled
def believe_blocks(mask: Bool, factor: int, belief: Image) -> None:
    """-1 for all pixels of the blocks of a mask, 1 for others, and around them one pixel that is as the next."""
    n_y, n_x = belief.shape
    for row in range(mask.shape[0]):
        first, stop = row * factor + 1, min((row + 1) * factor + 1, n_y - 1)
        line = belief[first]
        for column in range(mask.shape[1]):
            for x in range(column * factor + 1, min((column + 1) * factor + 1, n_x - 1)):
                line[_index(x)] = np.float32(-1) if mask[row, column] else np.float32(1)
        line[0], line[n_x - 1] = line[1], line[n_x - 2]
        for y in range(first + 1, stop):
            belief[y] = line
    belief[0], belief[n_y - 1] = belief[1], belief[n_y - 2]


@compiled
def settle_pixels(belief: Floats, places: NDArray[np.int64], evidence: Floats, n_x: int, sweeps: int) -> None:
    """Decide some pixels of a plane by evidence and by neighbours that agree, in place; see `regions.settle`.

    `belief` is -1 for agarose and 1 for tissue; no place is on the border of the plane.
    """
    is_due = np.zeros(belief.size, np.bool_)  # what would stay as it is, is not asked again
    for i in range(places.size):
        belief[places[i]] = np.tanh(evidence[i] / np.float32(2))
        is_due[places[i]] = True
    for _ in range(sweeps):
        for i in range(places.size):
            at = places[i]
            if not is_due[at]:
                continue
            is_due[at] = False
            beside = belief[at - 1] + belief[at + 1] + belief[at - n_x] + belief[at + n_x]
            across = belief[at - n_x - 1] + belief[at - n_x + 1] + belief[at + n_x - 1] + belief[at + n_x + 1]
            last, belief[at] = belief[at], np.tanh((evidence[i] + beside + np.float32(0.7) * across) / np.float32(2))
            if belief[at] != last:
                for row in (at - n_x, at, at + n_x):
                    is_due[row - 1] = is_due[row] = is_due[row + 1] = True


@compiled
def flip_specks(belief: Floats, places: NDArray[np.int64], n_x: int, least: Number) -> None:
    """Flip the sign of connected parts of fewer than `least` pixels that have one of `places`, in place.

    The border of the plane belongs to no part.
    """
    free, taken, done, border = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3)
    state = np.zeros(belief.size, np.uint8)
    state[:n_x], state[-n_x:], state[::n_x], state[n_x - 1 :: n_x] = border, border, border, border
    part = np.empty(int(least) + 5, np.int64)
    for place in places:
        if state[place] != free:
            continue
        part[0], state[place] = place, taken
        n, at, kept = 1, 0, least <= 1
        while at < n and not kept:  # a part that is large enough need not be followed to its end
            for step in (-n_x, -1, 1, n_x):
                beside = part[at] + step
                if (belief[beside] < 0) != (belief[place] < 0):
                    continue
                if state[beside] == free:
                    part[n], state[beside] = beside, taken
                    n += 1
                elif state[beside] == done:
                    kept = True
            kept |= n >= least
            at += 1
        for i in range(n):
            state[part[i]] = done
            if not kept:
                belief[part[i]] *= -1


@compiled
def near(mask: Bool, radius: Number) -> Bool:
    """Pixels within a distance of those of a mask."""
    n_y, n_x = mask.shape
    found = mask.copy()
    reach = int(radius)
    for y in range(n_y):
        for x in range(n_x):
            inner = 0 < y < n_y - 1 and 0 < x < n_x - 1
            if not mask[y, x]:
                continue
            if inner and mask[y - 1, x] and mask[y + 1, x] and mask[y, x - 1] and mask[y, x + 1]:
                continue  # what is near to it is near to those beside it too, or in the mask
            for other in range(max(y - reach, 0), min(y + reach, n_y - 1) + 1):
                width = int(np.sqrt(radius * radius - (other - y) ** 2))
                for beside in range(max(x - width, 0), min(x + width, n_x - 1) + 1):
                    found[other, beside] = True
    return found


@compiled
def block_means(values: Floats, n_x: int, factor: int, mean: Image) -> None:
    """Means of blocks of a plane, `(y, x)`; NaN where less than half of a block has data (neither NaN nor 0)."""
    n_y = values.size // n_x
    totals, counts = np.empty(n_x), np.empty(n_x, np.int32)
    for row in range(mean.shape[0]):
        lines = range(row * factor, min(row * factor + factor, n_y))
        n_present = _add_lines(values, row * factor * n_x, len(lines), totals)
        if n_present == len(lines) * n_x:  # as mostly: then nothing need be counted
            _means_of_whole(totals, factor, len(lines), mean[row])
            continue
        counts[:] = 0
        for y in lines:
            for x in range(n_x):
                value = values[_index(y * n_x + x)]
                counts[_index(x)] += np.int32((value == value) & (value != 0))
        for column in range(mean.shape[1]):
            n_columns = min(factor, n_x - column * factor)
            total, count = 0.0, 0
            for x in range(column * factor, column * factor + n_columns):
                total += totals[_index(x)]
                count += counts[_index(x)]
            mean[row, column] = np.float32(total / count) if 2 * count >= len(lines) * n_columns and count else np.nan


@compiled
def _add_lines(values: Floats, start: int, n_lines: int, totals: NDArray[np.float64]) -> int:
    """Add up lines, what is neither NaN nor 0 of them, into totals; returns how many values that are.

    Some columns of all lines are taken while their totals are in the nearest cache.
    """
    n_x, n_present = totals.size, 0
    block = np.empty(BLOCK)
    for first in range(0, n_x, BLOCK):
        n, of_block = min(BLOCK, n_x - first), np.int32(0)
        block[:] = 0
        for line in range(n_lines):
            at = start + line * n_x + first
            fetch(values, _index(at))
            for i in range(n):
                value = values[_index(at + i)]
                has = (value == value) & (value != 0)
                block[_index(i)] += np.float64(value if has else np.float32(0))
                of_block = np.int32(of_block + has)
        for i in range(n):
            totals[_index(first + i)] = block[_index(i)]
        n_present += int(of_block)
    return n_present


@compiled
def _means_of_whole(totals: NDArray[np.float64], factor: int, n_lines: int, mean: Floats) -> None:
    """Means of the blocks of some lines that have data everywhere."""
    n_blocks, n_pixels = totals.size // factor, np.float64(n_lines * factor)
    if factor == 2:  # of a distance between blocks that the compiler knows, it makes vector instructions
        for i in range(n_blocks):
            mean[_index(i)] = np.float32((totals[_index(2 * i)] + totals[_index(2 * i + 1)]) / n_pixels)
    elif factor == 3:
        for i in range(n_blocks):
            total = totals[_index(3 * i)] + totals[_index(3 * i + 1)] + totals[_index(3 * i + 2)]
            mean[_index(i)] = np.float32(total / n_pixels)
    else:
        for i in range(n_blocks):
            total = 0.0
            for x in range(i * factor, (i + 1) * factor):
                total += totals[_index(x)]
            mean[_index(i)] = np.float32(total / n_pixels)
    if n_blocks < mean.size:  # the last is smaller
        total = 0.0
        for value in totals[n_blocks * factor :]:
            total += value
        mean[n_blocks] = np.float32(total / (n_lines * (totals.size - n_blocks * factor)))
