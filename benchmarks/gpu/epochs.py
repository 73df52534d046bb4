"""One epoch of the adder in several ways: where the data are, how often the host waits."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.gpu.model import Adder, answer_loss

HIDDEN = 128
LEARNING_RATE, CLIP_NORM = 1e-3, 1.0
LOG_EVERY = 50  # steps
WARM = 20  # steps before the clock starts
_CAPTURE_WARM = 3  # steps on a side stream before a graph is captured

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of a batch: loss and gradient norm


@attrs.frozen(kw_only=True)
class Way:
    """A way to run the steps of an epoch.

    Attributes:
        name: as it is in the table.
        on_device: all data are on the device from the beginning; otherwise each batch is copied.
        read_every: steps after which the host reads loss and norm, and so waits for the device.
        engine: `eager`; `graph`: one CUDA graph of the whole step; `compile`: `torch.compile` of
            the model.
        precision: `fp32` or `bf16` (autocast).
        cells: the LSTM is a loop over time steps in Python.
    """

    name: str
    on_device: bool = True
    read_every: int = LOG_EVERY
    engine: str = "eager"
    precision: str = "fp32"
    cells: bool = False

    def reason_against(self, device: torch.device) -> str:
        """Return why this way is impossible on a device; empty: it is not."""
        if self.engine == "graph" and device.type != "cuda":
            return "CUDA graphs need a GPU"
        return ""


WAYS = (
    Way(name="as learn(): batches of the host, loss and norm read each step",
        on_device=False, read_every=1),
    Way(name="the data on the device", read_every=1),
    Way(name=f"loss and norm read each {LOG_EVERY} steps"),
    Way(name="the same in bf16", precision="bf16"),
    Way(name="a CUDA graph of the step", engine="graph"),
    Way(name="the graph in bf16", engine="graph", precision="bf16"),
    Way(name="a loop over LSTM cells", cells=True),
    Way(name="the loop over cells, compiled", cells=True, engine="compile"),
    Way(name="the loop over cells in a CUDA graph", cells=True, engine="graph"),
)  # fmt: skip


class Sums(NamedTuple):
    """Questions (N, Q) and answers (N, A) in codes, uint8, and the number of codes."""

    question: NDArray[np.uint8]
    answer: NDArray[np.uint8]
    num_codes: int


class Epoch(NamedTuple):
    """Seconds of the timed steps, their number, and the mean loss over them."""

    seconds: float
    steps: int
    loss: float


def run_epoch(way: Way, sums: Sums, batch_size: int, device: torch.device) -> Epoch:
    """Train one epoch of whole batches in one way; what is compiled or captured is not timed."""
    torch.manual_seed(0)
    model = Adder(sums.num_codes, HIDDEN, way.cells).to(device)
    step = make_step(way, model, device, sums, batch_size)
    num = len(sums.question) // batch_size
    for batch in _batches(way, sums, batch_size, device, min(WARM, num)):
        step(*batch)
    _wait(device)
    total = torch.zeros((), device=device)
    begun = time.perf_counter()
    for number, batch in enumerate(_batches(way, sums, batch_size, device, num), 1):
        loss, norm = step(*batch)
        total += loss
        if number % way.read_every == 0:
            loss.item(), norm.item()
    mean = float(total) / num  # which waits for the device
    return Epoch(time.perf_counter() - begun, num, mean)


def make_step(
    way: Way, model: nn.Module, device: torch.device, sums: Sums, batch_size: int
) -> Step:
    """Return a step of fused Adam with clipping, run by the engine of `way`."""
    is_graph = way.engine == "graph"
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True, capturable=is_graph)
    forward = torch.compile(model) if way.engine == "compile" else model

    def step(question: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            device.type, torch.bfloat16, enabled=way.precision == "bf16", cache_enabled=False
        ):
            loss = answer_loss(forward, question.long(), answer.long())
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        return loss.detach(), norm

    if not is_graph:
        return step
    shapes = ((batch_size, sums.question.shape[1]), (batch_size, sums.answer.shape[1]))
    return _captured(step, optimizer, tuple(torch.zeros(s, dtype=torch.uint8) for s in shapes))


def _captured(step: Step, optimizer: Any, examples: tuple[Tensor, ...]) -> Step:
    """Return a step that replays a CUDA graph of `step` on batches that are copied into place.

    The steps before the capture change the weights: they are put back, and Adam's state is zero.
    """
    question, answer = (tensor.cuda() for tensor in examples)
    parameters = optimizer.param_groups[0]["params"]
    before = [parameter.detach().clone() for parameter in parameters]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_CAPTURE_WARM):
            step(question, answer)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        results = step(question, answer)
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
        for state in optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def replay(new_question: Tensor, new_answer: Tensor) -> tuple[Tensor, Tensor]:
        question.copy_(new_question)
        answer.copy_(new_answer)
        graph.replay()
        return results

    return replay


def _batches(
    way: Way, sums: Sums, batch_size: int, device: torch.device, num: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `num` shuffled batches of codes; the order is the same in every way."""
    order = np.random.default_rng(0).permutation(len(sums.question))
    arrays = (sums.question, sums.answer)
    if not way.on_device:
        for first in range(0, num * batch_size, batch_size):
            rows = order[first : first + batch_size]
            question, answer = (torch.as_tensor(array[rows]).to(device) for array in arrays)
            yield question, answer
        return
    rows = torch.as_tensor(order, device=device)
    questions, answers = (torch.as_tensor(array).to(device)[rows] for array in arrays)
    for first in range(0, num * batch_size, batch_size):
        part = slice(first, first + batch_size)
        yield questions[part], answers[part]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
