"""The tiny perceptron in a bare PyTorch loop, and in `learn()`."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.config import AgentConfig
from benchmarks.peers.bare import bare_loop
from benchmarks.peers.common import parser, report, timed_steps
from benchmarks.steps import NEVER, seconds_of_learning
from benchmarks.tiny import TinyAgent, TinyTask, register, tiny_data, tiny_model

RECIPE = {
    "optimizer": "adam", "learning_rate": 1e-3, "precision": "fp32", "clip_norm": 1.0,
    "eval_every": NEVER,
}  # fmt: skip


def class_loss(model: nn.Module, inputs: Tensor, label: Tensor) -> Tensor:
    """Return the mean cross entropy of a batch."""
    return F.cross_entropy(model(inputs), label)


def seconds_of_bare_loop(batch: int, warm: int, steps: int) -> float:
    """Return the seconds of `steps` steps after `warm` others."""
    model = tiny_model()
    loss_fn = functools.partial(class_loss, model)
    stamps = bare_loop(model, loss_fn, tiny_data(), batch, warm + steps, clip_norm=1.0)
    return stamps[warm + steps] - stamps[warm]


def seconds_in_learn(batch: int, warm: int, steps: int) -> float:
    """Return the seconds of `steps` steps within `learn()`, with all that it has on."""
    register()
    agent = TinyAgent(TinyTask(), AgentConfig(batch_size=batch, **RECIPE), "cpu")
    return seconds_of_learning(agent, warm, steps)


LOOPS = {"bare": seconds_of_bare_loop, "terrarium": seconds_in_learn}


def main() -> None:
    """Measure one of the two loops and print it."""
    parse = parser("the tiny perceptron", batch=64)
    parse.add_argument("--loop", choices=LOOPS, required=True)
    options = parse.parse_args()
    warm, steps = timed_steps(options.limit)
    seconds = LOOPS[options.loop](options.batch, warm, steps)
    report(us_per_step=1e6 * seconds / steps, versions={"torch": torch.__version__})


if __name__ == "__main__":
    main()
