"""Launched ranks: what `torchrun` says of this process in its environment; needs no torch."""

import os
from typing import NamedTuple

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Rank(NamedTuple):
    """One of several processes that train together."""

    rank: int  # among all, from 0
    world_size: int  # number of them
    local_rank: int  # among those of this machine, from 0: the number of its GPU


def launched_rank() -> Rank | None:
    """Return which rank this process is, or None: it trains alone."""
    values = [os.environ.get(name, "") for name in _VARIABLES]
    if not all(values) or int(values[1]) < 2:
        return None
    return Rank(*map(int, values[:3]))


def is_main() -> bool:
    """Return whether this process writes: it is rank 0, or alone."""
    rank = launched_rank()
    return rank is None or rank.rank == 0
