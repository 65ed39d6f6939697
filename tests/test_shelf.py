"""A row of things that wait in a temporary file."""

from __future__ import annotations

import errno
import gc
import os
import pickle

import numpy as np
import pytest

from xoctnorm import shelf
from xoctnorm.shelf import Shelf
from xoctnorm.threads import in_threads


@pytest.mark.parametrize("in_memory", [2**20, 1000])
def test_what_is_put_down_is_taken_up(monkeypatch, in_memory):
    monkeypatch.setattr(shelf, "IN_MEMORY", in_memory)
    arrays = [np.full((20, 30), number, np.float32) for number in range(9)]
    row = Shelf(iter(arrays))
    assert len(row) == 9
    for number in (3, 0, 8, 3):
        np.testing.assert_array_equal(row[number], arrays[number])
    row[4] = np.full((20, 30), 7, np.float32)
    np.testing.assert_array_equal(np.stack(list(row))[:, 0, 0], [0, 1, 2, 3, 7, 5, 6, 7, 8])
    assert [int(one[0, 0]) for one in in_threads(lambda number: row[number], range(9))][5:] == [5, 6, 7, 8]
    with pytest.raises(IndexError):
        row[9]


def test_a_short_row_is_no_file_and_no_copy():
    array = np.zeros((20, 30))
    row = Shelf([array, {"a": array[::2, ::2]}])  # not contiguous
    assert row[0] is array
    assert row._file is None


def test_its_file_goes_with_it(monkeypatch):
    monkeypatch.setattr(shelf, "IN_MEMORY", 1)
    row = Shelf([np.zeros(1000)])
    file = row._file
    assert file.fileno() > 0  # a file indeed
    assert not file.closed
    del row
    gc.collect()
    assert file.closed


def test_a_full_disk_is_told(monkeypatch):
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shelf, "IN_MEMORY", 1)
    row = Shelf([1])
    monkeypatch.setattr(pickle, "dump", full)
    with pytest.raises(OSError, match="TMPDIR") as raised:
        row.append(2)
    assert raised.value.errno == errno.ENOSPC
    assert len(row) == 1
