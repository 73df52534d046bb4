"""Process groups: what ranks that train one agent together tell each other (torch.distributed).

Every rank does the same in the same order; what each has to decide, it decides by numbers that all
have. A single process is a group of one, in which nothing is sent.
"""

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, final

import numpy as np
import torch
import torch.distributed as dist

from agents.core.config import ConfigError
from agents.core.training import launch, messages
from tasks.core.settings import TerrariumError

_T = TypeVar("_T")


class LostRankError(TerrariumError):
    """Another rank ended, so that this one cannot go on."""

    exit_code = 1


class Group(abc.ABC):
    """Base class of process groups.

    Attributes:
        rank: of this process, from 0.
        size: number of ranks (the world size).
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and to the terminal."""
        return self.rank == 0

    @abc.abstractmethod
    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sum over the ranks of each of some numbers, the same bits on every rank."""

    @abc.abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order, on every rank; see `messages`."""

    @abc.abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""

    @abc.abstractmethod
    def on_main(self, function: Callable[[], _T]) -> _T | None:
        """Call a function on rank 0 while the others wait; return its value there, else None.

        Raises:
            SystemExit: on the other ranks, with its exit code, where the function raised an error.
        """

    @final
    def bounds(self, total: int, index: int = 0, num: int = 1) -> tuple[int, int]:
        """Return the samples, from and to, of part `index` of `num` of this rank's share.

        The sizes of all parts of all ranks differ by one sample at most; the first has the most.
        """
        number, parts = self.rank * num + index, self.size * num
        return -(-total * number // parts), -(-total * (number + 1) // parts)

    def spans(self, total: int, num: int) -> list[tuple[int, int]]:
        """Return the samples, from and to, of up to `num` micro-batches of this rank's share.

        All ranks have equally many, as each may wait for the others. Of fewer samples than ranks a
        rank has one sample, or (0, 0).
        """
        num = max(1, min(num, total // self.size))
        spans = [self.bounds(total, index, num) for index in range(num)]
        return [(begin, end) if end > begin else (0, 0) for begin, end in spans]


@final
class SingleProcess(Group):
    """A process that trains alone."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(values)

    def gather(self, value: Any) -> list[Any]:
        """Return the value in a list."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def on_main(self, function: Callable[[], _T]) -> _T | None:
        """Call the function."""
        return function()


SINGLE = SingleProcess()


@final
class ProcessGroup(Group):
    """torch's default process group. Numbers and messages are exchanged from the CPU (gloo)."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums: an all-reduce in double precision."""
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks: one all-gather of their lengths, one of the messages."""
        data = messages.to_bytes(value)
        lengths = [torch.zeros((), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor(len(data)))
        longest = max(map(int, lengths))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        received = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(received, padded)
        pairs = zip(received, lengths, strict=True)
        return [messages.from_bytes(tensor[: int(num)].numpy().tobytes()) for tensor, num in pairs]

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0: a broadcast of its length, and one of the message."""
        data = messages.to_bytes(value) if self.is_main else b""
        length = torch.tensor(len(data))
        dist.broadcast(length, 0)
        tensor = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_main:
            tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        dist.broadcast(tensor, 0)
        return value if self.is_main else messages.from_bytes(tensor.numpy().tobytes())

    def on_main(self, function: Callable[[], _T]) -> _T | None:
        """Call the function on rank 0, and tell the others how it ended."""
        result, code = None, 0
        try:
            if self.is_main:
                result = function()
        except BaseException as error:
            code = error.exit_code if isinstance(error, TerrariumError) else 1
            raise
        finally:
            code = self.broadcast(code)
        if code:  # rank 0 has said why
            raise SystemExit(code)
        return result


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """Join the process group for a block: the one that exists, that of `torchrun`, or a single one.

    Raises:
        ConfigError: the ranks' kind of device has no backend.
        LostRankError: another rank ended within the block.
    """
    is_ours = launch.launched_rank() is not None and not dist.is_initialized()
    if is_ours:
        _initialize(device)
    try:
        is_shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        yield ProcessGroup() if is_shared else SINGLE
    except RuntimeError as error:
        if not _is_of_connection(error):
            raise
        problem = "another rank ended, and this one with it; its own message says why"
        raise LostRankError(problem) from error
    finally:
        if is_ours:
            dist.destroy_process_group()


def _initialize(device: torch.device) -> None:
    """Make torch's default process group as `torchrun` describes it."""
    backends = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
    if device.type not in backends:
        problem = f"{device.type!r} cannot be used by several ranks"
        raise ConfigError("device", "", problem, ", ".join(backends))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backends[device.type])


def _is_of_connection(error: RuntimeError) -> bool:
    """Return whether an error is of the exchange between ranks: gloo's have no class."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def rank_key(kind: str, rank: int) -> str:
    """Return the name, in a checkpoint, of the random state of a rank: `cpu`, `cpu.1`, …."""
    return f"{kind}.{rank}" if rank else kind


def num_ranks(names: Sequence[str]) -> int:
    """Return of how many ranks a checkpoint has the random states, by their names."""
    return 1 + max((int(name.partition(".")[2] or 0) for name in names), default=0)


def seed_of(seed: int, rank: int, step: int) -> int:
    """Return the seed of a rank that has no random state yet; rank 0 has that of the run."""
    if rank == 0:
        return seed
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0])
