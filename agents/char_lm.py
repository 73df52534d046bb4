"""Character-level language model: an RNN that predicts the next character of a text.

Karpathy, Johnson and Fei-Fei (2015, 1506.02078) found single units of such networks that follow
quotes, brackets and the length of a line; the views search for them.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.char_lm import CharLMConfig
from agents.core.agent import Agent
from agents.core.config import ConfigError
from agents.core.layers import OneHot, recurrent
from agents.core.training.loop import to_device
from tasks.core.batch import take
from tasks.core.task import LanguageModelSpec, Split, TextChunks
from tasks.text import NUL_SHOWN, UNKNOWN, Text
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.records import Bars, Transcript

_NUM_OBSERVED = 400  # samples of the views: each has many characters
_LABEL_LENGTH = 20  # last characters of a text that are its label
_SAMPLE_LENGTH = 600  # characters of each text in the view `samples`


class CharRNN(nn.Module):
    """RNN over characters. B texts, T characters, V codes, L layers, H units."""

    def __init__(self, config: CharLMConfig, spec: LanguageModelSpec) -> None:
        super().__init__()
        num_codes = len(spec.characters)
        self.characters: nn.Module = OneHot(num_codes)
        width = num_codes
        if config.encoding == "embedding":
            width = config.embedding_size
            self.characters = nn.Embedding(num_codes, width)
        self.recurrent = recurrent(
            config.cell, width, config.hidden_size, config.num_layers, config.dropout
        )
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(config.hidden_size, num_codes)

    def forward(self, text: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return logits (B, T, V) of the next character at each position, and the last state.

        A state is h, and c of an LSTM, each (B, L, H): the batch comes first, as in every array
        that a data-parallel wrapper splits. Without a state, it is zero.
        """
        initial = tuple(tensor.transpose(0, 1).contiguous() for tensor in state)
        output, last = self.recurrent(
            self.characters(text),
            (initial if len(initial) > 1 else initial[0]) if initial else None,
        )
        final = last if isinstance(last, tuple) else (last,)
        logits = self.readout(self.dropout(output))
        return logits, *(tensor.transpose(0, 1) for tensor in final)


class CharLM(Agent):
    """Language model trained by truncated backpropagation through time (Williams and Peng 1990).

    The hidden state of a text is passed from chunk to chunk; only gradients end with the chunk.
    """

    name = "char_lm"
    Config = CharLMConfig
    spec_type = LanguageModelSpec
    config: CharLMConfig
    model: CharRNN

    @staticmethod
    def build_model(config: CharLMConfig, spec: LanguageModelSpec) -> nn.Module:
        """Return the network for the task's characters."""
        return CharRNN(config, spec)

    def loss(self, batch: TextChunks) -> Tensor:
        """Return the mean cross entropy of the next characters, in nats."""
        passes_state = self.model.training and self.config.stateful
        state = self._initial_state(batch.reset_state) if passes_state else ()
        logits, *final = self.network(batch.text, *state)
        if passes_state:
            self.state.hidden_state = {
                str(index): tensor.detach().contiguous() for index, tensor in enumerate(final)
            }
        return F.cross_entropy(
            logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=UNKNOWN
        )

    def _initial_state(self, reset_state: Tensor) -> tuple[Tensor, ...]:
        """Return the last batch's states, with zeros where the state is reset (B,).

        A network that has nearly always had a state fails without one, as in `sample`: so it is
        also reset at random, with `state_reset_prob`.
        """
        states, num = self.state.hidden_state, len(reset_state)
        if len(states.get("0", ())) < num:  # of a smaller batch, or none
            return ()
        draws = torch.rand(num, device=reset_state.device)
        keep = (~reset_state & (draws >= self.config.state_reset_prob))[:, None, None]
        # Not a product: after a divergence a state may be no number.
        return tuple(torch.where(keep, states[name][:num], 0.0) for name in sorted(states))

    def predict_batch(self, batch: TextChunks) -> Tensor:
        """Return the likeliest next characters (batch, time)."""
        logits: Tensor = self.model(batch.text)[0]
        return logits.argmax(-1)

    def bits_per_character(self, split: Split = "test", num: int = 10_000, seed: int = 0) -> float:
        """Return the mean cross entropy in bits on at most `num` samples of a split.

        Each sample is read from its beginning with a state of zeros, as `task.ngram_bits` does.
        """
        return self.mean_loss(self.task.samples(split, num, seed)) / math.log(2)

    def sample(
        self,
        prompt: str,
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> str:
        r"""Sample a continuation of a prompt: `length` characters, one by one.

        Args:
            prompt: as a person types it.
            length: characters, 1 or more.
            temperature: the logits are divided by it; 0 always takes the likeliest character.
            top_k: number of likeliest characters to sample from; None: all.
            seed: random seed of the sampling.

        Raises:
            ConfigError: (a ValueError) says what is wrong with which argument.
        """
        for name, value, least in (
            ("length", length, 1), ("temperature", temperature, 0), ("top_k", top_k, 1),
        ):  # fmt: skip
            if value is not None and not least <= value < math.inf:
                raise ConfigError("sample()", name, f"{value} is out of range", f"≥ {least}")
        codes = self._sample_codes(self.task.encode([prompt]), length, temperature, top_k, seed)
        return self.task.decode(codes)[0]

    def generate(self, batch: TextChunks) -> Tensor:
        """Sample a continuation of each text (batch, sample_length), as the config says.

        Newlines with which a task pads a text in front are read too; `predict` has only texts of
        one length in a batch.
        """
        config = self.config
        codes = self._sample_codes(
            batch, config.sample_length, config.temperature, config.top_k, config.seed
        )
        return torch.as_tensor(codes)

    def _sample_codes(
        self, batch: TextChunks, length: int, temperature: float, top_k: int | None, seed: int
    ) -> NDArray[np.int64]:
        """Sample codes (B, length), one by one.

        All texts share their random numbers, so that no text depends on the size of its batch.
        """
        uniforms = np.random.default_rng(seed).random(length)
        text = to_device(batch, self.device).text
        codes = np.empty((len(text), length), np.int64)
        with evaluation_mode(self.model), torch.inference_mode():
            state: tuple[Tensor, ...] = ()
            for step in range(length):
                logits, *final = self.model(text, *state)
                state = tuple(final)
                codes[:, step] = _sample_code(
                    logits[:, -1].cpu().numpy(), temperature, top_k, uniforms[step]
                )
                text = torch.as_tensor(codes[:, step : step + 1]).to(self.device)
        return codes

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return views of sampled texts, and of n-gram baselines."""
        views: dict[str, Callable[[], Any]] = {"samples": self.sampled_texts}
        if isinstance(self.task, Text):  # no other task has n-grams
            views["baseline"] = functools.partial(self.baseline, self.task)
        return views

    def sampled_texts(self) -> "dict[str, Transcript]":
        """Sample a text without a prompt, at two temperatures; long lines are broken."""
        from visualization.records import Transcript

        characters = self.task.spec.characters
        prompt = "\n" if "\n" in characters else characters[0]
        texts = {
            temperature: self.sample(prompt, _SAMPLE_LENGTH, temperature)
            for temperature in (0.5, 1.0)
        }
        return {
            f"temperature {temperature}": Transcript(
                re.sub("(.{100})(?=.)", r"\1\n", text.replace("\0", NUL_SHOWN))
            )
            for temperature, text in texts.items()
        }

    def baseline(self, task: Text) -> "Bars":
        """Return bits per character on the test split, and those of n-grams."""
        from visualization.records import Bars

        bits = {f"{n} characters": b for n, b in enumerate(task.ngram_bits())}
        own = {self.name: self.bits_per_character()}
        panel = "bits per character of the test split: n-grams that know the last …"
        return Bars({panel: bits | own}, marked=(self.name,), digits=2)

    def observe(self, batch: TextChunks) -> "Observation":
        """Return the observation of a batch, with the recurrent layer."""
        from agents.core.inspection.observation import (
            AnswerScores,
            RecurrentPart,
            logits_above_mean,
            observe,
        )

        batch = take(batch, 0, _NUM_OBSERVED)
        tensors = to_device(batch, self.device)
        with torch.inference_mode():
            answers = self.model(tensors.text)[0].argmax(-1).cpu().numpy()
        probe_targets = self.task.probe_targets(batch)

        def score() -> dict[str, Tensor]:
            logits = self.model(tensors.text)[0]
            num_targets = (tensors.targets != UNKNOWN).sum(1).clamp(min=1)
            loss = F.cross_entropy(
                logits.transpose(1, 2), tensors.targets, reduction="none", ignore_index=UNKNOWN
            )
            is_right = logits.argmax(-1) == tensors.targets
            return {"accuracy": is_right.sum(1) / num_targets, "loss": loss.sum(1) / num_targets}

        def generate() -> tuple[Tensor, Tensor]:
            logits = self.model(tensors.text)[0][:, -1:]
            return logits.argmax(-1), logits

        def answer_scores(numbers: Tensor) -> Tensor:
            codes = torch.as_tensor(answers[:, -1:]).to(self.device)[numbers]
            return logits_above_mean(self.model(tensors.text[numbers])[0][:, -1:], codes)

        characters = tuple(self.task.spec.characters.replace("\0", NUL_SHOWN))
        symbols = np.array(characters)
        part = RecurrentPart(
            "reader", self.model.recurrent, symbols[batch.text], symbols[answers],
            probe_targets.encoder, probe_targets.position_keys[0], score,
        )  # fmt: skip
        rows = self.task.rows(answers, batch)
        return observe(
            self, batch, rows=rows, recurrent=(part,), characters=characters, generate=generate,
            answer_scores=AnswerScores(scores=answer_scores, texts=symbols[answers[:, -1:]]),
            labels=[f"{row.question[-_LABEL_LENGTH:]} → {row.answer}" for row in rows],
        )  # fmt: skip


def _sample_code(
    logits: NDArray[np.float32],
    temperature: float,
    top_k: int | None,
    uniform: "float | NDArray[np.float64]",
) -> NDArray[np.int64]:
    """Sample a code for each row of logits (B, V), by inverting the cumulative distribution.

    `uniform` is a random number in [0, 1), or one for each row (B, 1).
    """
    if temperature == 0:
        return np.asarray(logits.argmax(axis=1))
    scaled = logits.astype(np.float64)
    if top_k is not None and top_k < scaled.shape[1]:
        likeliest = np.argsort(-scaled, axis=1, kind="stable")  # of equal logits, the first
        np.put_along_axis(scaled, likeliest[:, top_k:], -np.inf, axis=1)
    with np.errstate(over="ignore"):  # at the lowest temperatures all others are -inf
        scaled = (scaled - scaled.max(axis=1, keepdims=True)) / temperature
    cumulative = np.exp(scaled).cumsum(axis=1)
    return np.asarray((cumulative <= uniform * cumulative[:, -1:]).sum(axis=1))
