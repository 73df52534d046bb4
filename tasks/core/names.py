"""Texts in one block of bytes: a million names of files without a million Python objects."""

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class NameTable(Sequence[str]):
    r"""Sequence of texts without `\0`, kept as UTF-8 in one block, and 4 bytes for each.

    >>> table = NameTable(["ant/1.png", "bee/2.png"])
    >>> table[1], len(table), table.find("ant/1.png"), table.find("ant")
    ('bee/2.png', 2, 0, None)
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._block = bytearray(b"\0")
        starts = array("Q")
        for name in names:
            starts.append(len(self._block))
            self._block += name.encode(errors="surrogatepass") + b"\0"
        starts.append(len(self._block))
        dtype = np.uint32 if len(self._block) < 2**32 else np.uint64
        self._starts = np.array(starts, dtype)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self._starts) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        """Return the text at a position, or those of a slice."""
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        begin, end = int(self._starts[at]), int(self._starts[at + 1]) - 1
        return self._block[begin:end].decode(errors="surrogatepass")

    def find(self, name: str) -> int | None:
        """Return the position of a text, the last of equal ones; None: it is not there."""
        at = self._block.rfind(b"\0" + name.encode(errors="surrogatepass") + b"\0")
        return None if at < 0 or "\0" in name else int(np.searchsorted(self._starts, at + 1))
