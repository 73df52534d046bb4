"""The tiny perceptron in Hugging Face's Trainer, with its progress bar, logs and checkpoints."""

import tempfile
import time
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from benchmarks.peers.common import parser, report, timed_steps
from benchmarks.tiny import tiny_data, tiny_model


class Rows(Dataset[dict[str, Tensor]]):
    """The samples as the Trainer asks for them: a mapping each."""

    def __init__(self) -> None:
        self.inputs, self.label = tiny_data()

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[number], "labels": self.label[number]}


class Perceptron(nn.Module):
    """The perceptron with the loss inside, as the Trainer asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_model()

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return loss and logits."""
        logits = self.model(inputs)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Clock(transformers.TrainerCallback):
    """Notes the time before each step."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_begin(self, *_arguments: Any, **_more: Any) -> None:
        """Note the time."""
        self.stamps.append(time.perf_counter())


def main() -> None:
    """Measure the steps after the first ones and print it."""
    options = parser("Trainer of Hugging Face", batch=64).parse_args()
    warm, steps = timed_steps(options.limit)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=warm + steps + 1,
            per_device_train_batch_size=options.batch,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            seed=options.seed,
            use_cpu=True,
        )
        transformers.Trainer(
            Perceptron(), arguments, train_dataset=Rows(), callbacks=[clock]
        ).train()
    seconds = clock.stamps[warm + steps] - clock.stamps[warm]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    report(us_per_step=1e6 * seconds / steps, versions=versions)


if __name__ == "__main__":
    main()
