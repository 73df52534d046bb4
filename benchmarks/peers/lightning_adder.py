"""The agent's model in Lightning, with the loader, progress bar, logger and checkpoints it has."""

import tempfile
import time
from typing import Literal

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.bare import adder_model, answer_loss, training_tensors
from benchmarks.peers.common import add_decoder, load, parser, report


class Adder(lightning.LightningModule):
    """The adder as a Lightning user writes it."""

    def __init__(self, decoder: Literal["states", "repeat"]) -> None:
        super().__init__()
        self.model = adder_model(decoder)

    def training_step(self, batch: list[Tensor], _number: int) -> Tensor:
        """Return the loss of a batch."""
        loss = answer_loss(self.model, *batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return fused Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)


class Clock(lightning.Callback):
    """Times the second epoch and the checkpoint at its end."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.seconds = 0.0

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start with each epoch, so that the last one counts."""
        self.begun = time.perf_counter()

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self.begun


def main() -> None:
    """Measure the second of two epochs and print it."""
    parse = parser("Lightning", batch=128)
    add_decoder(parse)
    options = parse.parse_args()
    lightning.seed_everything(options.seed, verbose=False)
    data = TensorDataset(*training_tensors(load(options.limit)))
    loader = DataLoader(data, batch_size=options.batch, shuffle=True)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            default_root_dir=folder,
            callbacks=[clock],
            enable_progress_bar=True,
            enable_checkpointing=True,
            logger=True,
        )
        trainer.fit(Adder(options.decoder), loader)
    versions = {"lightning": lightning.__version__, "torch": torch.__version__}
    report(samples_per_s=len(data) / clock.seconds, versions=versions)


if __name__ == "__main__":
    main()
