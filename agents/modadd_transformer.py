"""A one-layer Transformer that groks modular addition (Nanda et al. 2023, 2301.05217).

It learns the training pairs by heart within some hundred steps and answers others at chance. Weight
decay then makes it find another way, a few waves of a + b, which answers all. There is no layer
norm, so that the way can be read from the weights. As its one layer reads the answer at `=`, only
the queries of that token are computed.
"""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from agents.configs.modadd_transformer import ModaddConfig
from agents.core.classification import Classifier
from agents.core.config import ConfigError
from agents.core.layers import HiddenLinear
from agents.core.training.loop import to_device
from tasks.core.task import TextLabels
from tasks.modular_addition import NUM_TOKENS, ModularAddition, ModularSums

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.circuits import (
        FrequencyAblation,
        FrequencySpectra,
        LogitAttribution,
        ProgressMeasures,
    )
    from visualization.circuits.progress import Snapshot

NUM_ATTRIBUTED = 500  # sums of the view of direct logit attribution


class OneLayerTransformer(nn.Module):
    """One-layer Transformer without layer norm. B samples, D features, N heads, p remainders."""

    def __init__(self, config: ModaddConfig, spec: ModularSums) -> None:
        super().__init__()
        size, self.num_heads = config.d_model, config.num_heads
        self.embed = nn.Embedding(spec.modulus + 1, size)  # the last is =
        self.positions = nn.Parameter(torch.empty(NUM_TOKENS, size))
        self.query = HiddenLinear(size, size, bias=False)
        self.key = HiddenLinear(size, size, bias=False)
        self.value = HiddenLinear(size, size, bias=False)
        self.out = HiddenLinear(size, size, bias=False)
        self.widen, self.narrow = HiddenLinear(size, config.d_ff), HiddenLinear(config.d_ff, size)
        self.readout = nn.Linear(size, spec.modulus, bias=False)
        for name, parameter in self.named_parameters():
            is_bias = name.endswith("bias")
            deviation = spec.modulus**-0.5 if name == "readout.weight" else size**-0.5
            nn.init.normal_(parameter, 0.0, 0.0 if is_bias else deviation)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return logits (B, p) after the last of the tokens (B, 3)."""
        x = self.embed(sequence) + self.positions
        middle = x[:, -1] + self.out(self._contexts(x).flatten(1))
        return cast("Tensor", self.readout(middle + self.narrow(F.relu(self.widen(middle)))))

    def _contexts(self, x: Tensor) -> Tensor:
        """Return what each head takes to the last of the tokens x (B, 3, D), (B, N, D / N)."""

        def in_heads(vectors: Tensor) -> Tensor:
            return vectors.view(*vectors.shape[:-1], self.num_heads, -1)

        query, keys = in_heads(self.query(x[:, -1])), in_heads(self.key(x))
        scores = (keys * query[:, None]).sum(-1) / math.sqrt(query.shape[-1])  # B, 3, N
        return (scores.softmax(1)[..., None] * in_heads(self.value(x))).sum(1)

    def residual_parts(self, sequence: Tensor) -> dict[str, Tensor]:
        """Return the vectors (B, D) by name from whose sum the logits are read."""
        x = self.embed(sequence) + self.positions
        by_head = self.out.weight.view(len(self.out.weight), self.num_heads, -1)  # D, N, D / N
        heads = torch.einsum("bnh,dnh->nbd", self._contexts(x), by_head)
        mlp = self.narrow(self._neurons(x[:, -1] + heads.sum(0)))
        names = [f"head {number}" for number in range(1, self.num_heads + 1)]
        return {"embedding": x[:, -1], **dict(zip(names, heads, strict=True)), "MLP": mlp}

    def neurons(self, sequence: Tensor) -> Tensor:
        """Return the activations (B, hidden units) of the feed-forward block."""
        x = self.embed(sequence) + self.positions
        return self._neurons(x[:, -1] + self.out(self._contexts(x).flatten(1)))

    def _neurons(self, middle: Tensor) -> Tensor:
        return F.relu(self.widen(middle))


class ModaddTransformer(Classifier):
    """Modular addition by a one-layer Transformer: full batches, AdamW with much weight decay."""

    name = "modadd_transformer"
    Config = ModaddConfig
    spec_type = ModularSums
    config: ModaddConfig
    task: ModularAddition
    model: OneLayerTransformer

    @staticmethod
    def build_model(config: ModaddConfig, spec: ModularSums) -> nn.Module:
        """Return the network for the task's modulus."""
        size, heads = config.d_model, config.num_heads
        if size % heads:
            problem = f"{size} cannot be divided among {heads} heads"
            raise ConfigError("modadd_transformer", "d_model", problem, f"a multiple of {heads}")
        return OneLayerTransformer(config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """True: the loss is not random, and no sample affects another."""
        return True

    def loss(self, batch: TextLabels) -> Tensor:
        """Return the mean cross entropy, in nats.

        In double precision: below 1e-7, where weight decay still works, float32 is rounded to 0.
        """
        logits = self.network(batch.sequence)
        return F.cross_entropy(logits.double(), batch.label[:, 0])

    def observe(self, batch: TextLabels) -> "Observation":
        """Return the observation of a batch."""
        sequence = to_device(batch, self.device).sequence
        return self._observe(batch, lambda: cast("Tensor", self.model(sequence)))

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the views of the circuit; those through training need snapshots of the weights."""
        views: dict[str, Callable[[], Any]] = {
            "frequency_spectra": self.frequency_spectra,
            "frequency_ablation": self.frequency_ablation,
            "logit_attribution": self.logit_attribution,
        }
        if self.snapshots.steps():
            views["progress_measures"] = self.progress_measures
        return views

    @property
    def modulus(self) -> int:
        """The number modulo which it adds."""
        return self.task.modulus

    @functools.cached_property
    def _all_pairs(self) -> Tensor:
        """The tokens of all pairs (p², 3), of which the first number changes last."""
        batch = self.task.batch_of(np.arange(self.modulus**2))
        return cast("Tensor", to_device(batch, self.device).sequence)

    @property
    def is_train(self) -> NDArray[np.bool_]:
        """Which pairs are for training (p, p)."""
        is_train = np.zeros(self.modulus**2, bool)
        is_train[self.task.pairs("train")] = True
        return is_train.reshape(self.modulus, -1)

    @torch.inference_mode()
    def logits_of_pairs(self, tensors: Mapping[str, Tensor] | None = None) -> NDArray[np.float32]:
        """Return logits of all pairs (p, p, p), with other weights of these names."""
        logits = functional_call(self.model, dict(tensors or {}), (self._all_pairs,))
        return self._by_pair(logits)

    def _by_pair(self, values: Tensor) -> NDArray[Any]:
        array = values.cpu().numpy()
        return np.asarray(array.reshape(self.modulus, self.modulus, -1))

    def frequency_spectra(self) -> "FrequencySpectra":
        """Return Fourier spectra of the numbers' embedding, the neurons and the logits."""
        from visualization.circuits import frequency_spectra

        with torch.inference_mode():
            neurons = self._by_pair(self.model.neurons(self._all_pairs))
        embedding = self.model.embed.weight.detach()[: self.modulus]
        return frequency_spectra(embedding, neurons, self.logits_of_pairs())

    def frequency_ablation(self) -> "dict[str, FrequencyAblation]":
        """Return what is answered to withheld pairs from the key frequencies alone, or without.

        By place: the frequencies are kept or removed in the embedding of the numbers, and the
        network runs with it; or in the logits.
        """
        from visualization.circuits import (
            frequency_ablation,
            frequency_shares,
            keep_frequencies,
            key_frequencies,
            remove_frequencies,
        )

        logits = self.logits_of_pairs()
        keys, withheld = key_frequencies(frequency_shares(logits)), ~self.is_train
        others = [k for k in range(1, self.modulus // 2 + 1) if k not in keys]
        return {
            "embedding": frequency_ablation(
                logits, self._with_frequencies, self._with_frequencies(others), keys, withheld,
                place="embedding",
            ),
            "logits": frequency_ablation(
                logits, lambda chosen: keep_frequencies(logits, chosen),
                remove_frequencies(logits, keys), keys, withheld, place="logits",
            ),
        }  # fmt: skip

    def _with_frequencies(self, frequencies: Sequence[int]) -> NDArray[np.float32]:
        """Return logits of all pairs when the embedding has only some frequencies."""
        from visualization.circuits import frequency_projection

        weight = self.model.embed.weight.detach().clone()
        kept = torch.as_tensor(frequency_projection(self.modulus, frequencies)).to(weight)
        weight[: self.modulus] = kept @ weight[: self.modulus]
        return self.logits_of_pairs({"embed.weight": weight})

    def progress_measures(self) -> "ProgressMeasures":
        """Return loss, accuracy and progress measures at the snapshots of the weights."""
        from visualization.circuits import frequency_shares, key_frequencies, progress_measures

        keys = key_frequencies(frequency_shares(self.logits_of_pairs()))
        return progress_measures(self._snapshots(), self.is_train, keys)

    def _snapshots(self) -> "Iterator[Snapshot]":
        from visualization.circuits.progress import Snapshot

        states = self.snapshots.states(logging.getLogger(__name__).warning)
        for step, state in states.items():
            tensors = {name: tensor.to(self.device) for name, tensor in state.items()}
            squares = sum(float(tensor.double().square().sum()) for tensor in tensors.values())
            embedding = tensors["embed.weight"][: self.modulus]
            yield Snapshot(step, self.logits_of_pairs(tensors), embedding, squares)

    def logit_attribution(self) -> "LogitAttribution":
        """Return what embedding, heads and MLP add to the logits of the answers to test sums."""
        from visualization.circuits import direct_logit_attribution

        batch = self.task.samples("test", NUM_ATTRIBUTED)
        sequence = to_device(batch, self.device).sequence
        with torch.inference_mode():
            parts = self.model.residual_parts(sequence)
            logits = self.model(sequence)
            answers = logits.argmax(-1, keepdim=True)
            rows = self.task.rows(answers.cpu().numpy(), batch)
            return direct_logit_attribution(
                {name: part[:, None] for name, part in parts.items()}, logits[:, None], answers,
                self.model.readout, written=np.array([[row.answer] for row in rows]),
                labels=[f"{row.question} = {row.answer}" for row in rows],
            )  # fmt: skip
