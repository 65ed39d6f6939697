"""A row of images of sections, of which few are in memory: the others wait in a temporary file."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

IN_MEMORY = 2**25  # bytes of a row, up to which it is no file


class Shelf(Generic[Item]):
    """Things that are put down one after the other and taken up again by number, each time as a copy.

    Examples
    --------
    >>> shelf = Shelf(["first", "second"])
    >>> shelf[1], len(shelf)
    ('second', 2)
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  (it is open as long as the shelf lives)
        weakref.finalize(self, self._file.close)
        self._places: list[int] = []
        self._lock = threading.Lock()
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Put down the next one."""
        with self._lock:
            place = self._file.seek(0, os.SEEK_END)
            self._write(item)
            self._places.append(place)

    def __setitem__(self, number: int, item: Item) -> None:
        """Put down an array where another of the same shape and type was."""
        with self._lock:
            self._file.seek(self._places[number])
            self._write(item)

    def _write(self, item: Item) -> None:
        try:
            pickle.dump(item, self._file, protocol=5)
        except OSError as error:
            message = (
                f"what does not fit into memory cannot be written to a temporary file ({error}): make room, or name "
                "another folder with the environment variable TMPDIR"
            )
            raise OSError(error.errno, message, tempfile.gettempdir()) from error

    def __getitem__(self, number: int) -> Item:
        with self._lock:
            self._file.seek(self._places[number])
            item: Item = pickle.load(self._file)
        return item

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Item]:
        return (self[number] for number in range(len(self)))
