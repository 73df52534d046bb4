"""Results that are kept: the most recently used ones."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, final

_T = TypeVar("_T")


@final
class Recent(Generic[_T]):
    """Least-recently-used cache: results by key, at most so many.

    Unlike `functools.lru_cache` the key is not what the result is computed from.

    >>> recent = Recent[int](2)
    >>> [recent.get(key, lambda: key) for key in (1, 2, 1, 3)]
    [1, 2, 1, 3]
    >>> recent.get(2, lambda: 0), recent.get(3, lambda: 0)
    (0, 3)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: dict[Hashable, _T] = {}

    def get(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        """Return the result of a key; computed, if it is not kept."""
        result = self._results.pop(key) if key in self._results else compute()
        self._results[key] = result
        if len(self._results) > self._most:
            self._results.pop(next(iter(self._results)))
        return result
