"""The tiny perceptron in skorch, with its progress bar, log and checkpoints."""

import tempfile
import time
from typing import Any

import skorch
import torch
from skorch.callbacks import Callback, Checkpoint, GradientNormClipping, ProgressBar
from torch import nn

from benchmarks.peers.common import parser, report, timed_steps
from benchmarks.tiny import NUM_SAMPLES, tiny_data, tiny_model


class Clock(Callback):
    """Notes the time before each step."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_batch_begin(self, *_arguments: Any, **_more: Any) -> None:
        """Note the time."""
        self.stamps.append(time.perf_counter())


def main() -> None:
    """Measure the steps after the first ones and print it."""
    options = parser("skorch", batch=64).parse_args()
    warm, steps = timed_steps(options.limit)
    torch.manual_seed(options.seed)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        net = skorch.NeuralNetClassifier(
            tiny_model,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            optimizer__fused=True,
            lr=1e-3,
            batch_size=options.batch,
            iterator_train__shuffle=True,
            max_epochs=(warm + steps) // -(-NUM_SAMPLES // options.batch) + 1,
            train_split=None,
            callbacks=[
                ("clock", clock),
                ("clip", GradientNormClipping(1.0)),
                ("checkpoint", Checkpoint(dirname=folder, monitor=None)),
                ("bar", ProgressBar()),
            ],
        )
        net.fit(*tiny_data())
    seconds = clock.stamps[warm + steps] - clock.stamps[warm]
    versions = {"skorch": skorch.__version__, "torch": torch.__version__}
    report(us_per_step=1e6 * seconds / steps, versions=versions)


if __name__ == "__main__":
    main()
