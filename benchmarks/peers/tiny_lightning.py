"""The tiny perceptron in Lightning, with its progress bar, logger and checkpoints."""

import tempfile
import time
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.common import parser, report, timed_steps
from benchmarks.tiny import tiny_data, tiny_model


class Perceptron(lightning.LightningModule):
    """The perceptron as a Lightning user writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_model()

    def training_step(self, batch: list[Tensor], _number: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, label = batch
        loss = F.cross_entropy(self.model(inputs), label)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return fused Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)


class Clock(lightning.Callback):
    """Notes the time before each step."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_train_batch_start(self, *_arguments: Any) -> None:
        """Note the time."""
        self.stamps.append(time.perf_counter())


def main() -> None:
    """Measure the steps after the first ones and print it."""
    options = parser("Lightning", batch=64).parse_args()
    warm, steps = timed_steps(options.limit)
    lightning.seed_everything(options.seed, verbose=False)
    loader = DataLoader(TensorDataset(*tiny_data()), batch_size=options.batch, shuffle=True)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_steps=warm + steps + 1,
            accelerator="cpu",
            default_root_dir=folder,
            callbacks=[clock],
            gradient_clip_val=1.0,
        )
        trainer.fit(Perceptron(), loader)
    seconds = clock.stamps[warm + steps] - clock.stamps[warm]
    versions = {"lightning": lightning.__version__, "torch": torch.__version__}
    report(us_per_step=1e6 * seconds / steps, versions=versions)


if __name__ == "__main__":
    main()
