"""A row of images of sections, of which few are in memory: the others wait in a temporary file."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import IO, Generic, TypeVar

Item = TypeVar("Item")

IN_MEMORY = 2**25  # bytes of a row, up to which it is no file


class Shelf(Generic[Item]):
    """Things that are put down one after the other and taken up again by number.

    What is taken is a copy once the row is in a file, so a change counts only when it is put down again.

    Examples
    --------
    >>> shelf = Shelf(["first", "second"])
    >>> shelf[1], len(shelf)
    ('second', 2)
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._items: list[Item] = []  # while they are few
        self._n_bytes = 0
        self._file: IO[bytes] | None = None
        self._places: list[int] = []  # in the file
        self._lock = threading.Lock()
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Put down the next one."""
        with self._lock:
            if self._file is not None:
                self._append_to(self._file, item)
                return
            self._items.append(item)
            self._n_bytes += _size(item)
            if self._n_bytes > IN_MEMORY:
                self._move_to_file()

    def _move_to_file(self) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115  (it is open as long as the shelf lives)
        weakref.finalize(self, file.close)
        self._items.reverse()
        while self._items:
            self._append_to(file, self._items.pop())
        self._file = file

    def _append_to(self, file: IO[bytes], item: Item) -> None:
        place = file.seek(0, os.SEEK_END)
        _write(item, file)
        self._places.append(place)

    def __setitem__(self, number: int, item: Item) -> None:
        """Put down an array where another of the same shape and type was."""
        with self._lock:
            if self._file is None:
                self._items[number] = item
                return
            self._file.seek(self._places[number])
            _write(item, self._file)

    def __getitem__(self, number: int) -> Item:
        with self._lock:
            if self._file is None:
                return self._items[number]
            self._file.seek(self._places[number])
            item: Item = pickle.load(self._file)
        return item

    def __len__(self) -> int:
        return len(self._items) + len(self._places)

    def __iter__(self) -> Iterator[Item]:
        return (self[number] for number in range(len(self)))


def _size(item: object) -> int:
    """Bytes of a thing, and of the arrays in it, of which no copy is made."""
    arrays: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(item, protocol=5, buffer_callback=arrays.append)
    return len(rest) + sum(array.raw().nbytes for array in arrays)


def _write(item: object, file: IO[bytes]) -> None:
    try:
        pickle.dump(item, file, protocol=5)
    except OSError as error:
        message = (
            f"what does not fit into memory cannot be written to a temporary file ({error}): make room, or name "
            "another folder with the environment variable TMPDIR"
        )
        raise OSError(error.errno, message, tempfile.gettempdir()) from error
