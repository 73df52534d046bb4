"""A character-level language model: it reads a text, and at every place says what comes next.

Karpathy, Johnson and Fei-Fei (2015, 1506.02078) found single units of such networks that follow
quotes, brackets and the length of a line; the views look for them.
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

_STUDIED = 400  # samples of the views: each has many characters
_LABELLED = 20  # last characters of a text that name it, beside the text itself
_WRITTEN = 600  # characters of each text in the view `samples`


class NextCharacter(nn.Module):
    """Codes in, logits of the next code out. B texts, T characters, V codes, L layers, H units."""

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
        """Return logits (B, T, V) of the next character at each place, and the state after it.

        A state is h, and c of an LSTM, each (B, L, H): the batch stands first, as in every array
        that a data-parallel wrapper cuts. Without one, all are zeros.
        """
        given = tuple(part.transpose(0, 1).contiguous() for part in state)
        output, last = self.recurrent(
            self.characters(text), (given if len(given) > 1 else given[0]) if given else None
        )
        after = last if isinstance(last, tuple) else (last,)
        logits = self.readout(self.dropout(output))
        return logits, *(part.transpose(0, 1) for part in after)


class CharLM(Agent):
    """Learns by truncated backpropagation through time (Williams and Peng 1990): chunk by chunk.

    A text's state goes on from chunk to chunk; only gradients end with the chunk.
    """

    name = "char_lm"
    Config = CharLMConfig
    spec_type = LanguageModelSpec
    config: CharLMConfig
    model: NextCharacter

    @staticmethod
    def build_model(config: CharLMConfig, spec: LanguageModelSpec) -> nn.Module:
        """Return the network for the task's characters."""
        return NextCharacter(config, spec)

    def loss(self, batch: TextChunks) -> Tensor:
        """Return the mean cross entropy of the next characters, in nats."""
        following = batch.targets
        carries = self.model.training and self.config.stateful
        state = self._carried(batch.reset_state) if carries else ()
        logits, *after = self.network(batch.text, *state)
        if carries:
            self.state.carried = {
                str(at): part.detach().contiguous() for at, part in enumerate(after)
            }
        return F.cross_entropy(
            logits.flatten(0, 1).float(), following.flatten(), ignore_index=UNKNOWN
        )

    def _carried(self, begins: Tensor) -> tuple[Tensor, ...]:
        """Return the states after the batch before, with zeros where a text begins (B,).

        A network that nearly always goes on is lost where it cannot, as in `sample`: so at times it
        begins anyway.
        """
        carried = self.state.carried
        if begins.all() or len(carried.get("0", ())) < len(begins):  # of a smaller batch, or none
            return ()
        draws = torch.rand(len(begins), device=begins.device)
        goes_on = (~begins & (draws >= self.config.state_reset_prob))[:, None, None]
        return tuple(carried[name][: len(begins)] * goes_on for name in sorted(carried))

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
        r"""Return how the text goes on after a prompt: `length` characters, drawn one by one.

        Args:
            prompt: as a person types it.
            length: characters, 1 or more.
            temperature: the logits are divided by it; 0 always takes the likeliest character.
            top_k: only so many likeliest characters are drawn from; None: all.
            seed: of the draws.

        Raises:
            ConfigError: (a ValueError) says what is wrong with which argument.
        """
        for name, value, least in (
            ("length", length, 1), ("temperature", temperature, 0), ("top_k", top_k, 1),
        ):  # fmt: skip
            if value is not None and not least <= value < math.inf:
                raise ConfigError("sample()", name, f"{value} is out of range", f"≥ {least}")
        codes = self._drawn(self.task.encode([prompt]), length, temperature, top_k, seed)
        return self.task.decode(codes)[0]

    def generate(self, batch: TextChunks) -> Tensor:
        """Return how each text goes on (batch, sample_length), as the config says.

        A text is read as it stands in the batch: newlines that a task puts in front of it, to make
        it as long as another, are read too. `predict` asks only texts of one length together.
        """
        config = self.config
        drawn = self._drawn(
            batch, config.sample_length, config.temperature, config.top_k, config.seed
        )
        return torch.as_tensor(drawn)

    def _drawn(
        self, batch: TextChunks, length: int, temperature: float, top_k: int | None, seed: int
    ) -> NDArray[np.int64]:
        """Return drawn codes (B, length); the state goes on from character to character.

        All texts share their draws, so that none depends on how many stand beside it.
        """
        falls = np.random.default_rng(seed).random(length)
        text = to_device(batch, self.device).text
        found = np.empty((len(text), length), np.int64)
        with evaluation_mode(self.model), torch.inference_mode():
            state: tuple[Tensor, ...] = ()
            for step in range(length):
                logits, *after = self.model(text, *state)
                state = tuple(after)
                found[:, step] = _draw(logits[:, -1].cpu().numpy(), temperature, top_k, falls[step])
                text = torch.as_tensor(found[:, step : step + 1]).to(self.device)
        return found

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return texts that it writes, and what counting reaches."""
        views: dict[str, Callable[[], Any]] = {"samples": self.written}
        if isinstance(self.task, Text):  # no other task has n-grams
            views["baseline"] = functools.partial(self.baseline, self.task)
        return views

    def written(self) -> "dict[str, Transcript]":
        """Return a text that begins anew, at two temperatures; long lines are broken."""
        from visualization.records import Transcript

        known = self.task.spec.characters
        begin = "\n" if "\n" in known else known[0]
        texts = {heat: self.sample(begin, _WRITTEN, heat) for heat in (0.5, 1.0)}
        return {
            f"temperature {heat}": Transcript(
                re.sub("(.{100})(?=.)", r"\1\n", text.replace("\0", NUL_SHOWN))
            )
            for heat, text in texts.items()
        }

    def baseline(self, task: Text) -> "Bars":
        """Return bits per character on the test split, beside those of the task's n-grams."""
        from visualization.records import Bars

        bits = {f"{n} characters": b for n, b in enumerate(task.ngram_bits())}
        mine = {self.name: self.bits_per_character()}
        panel = "bits per character of the test split: n-grams that know the last …"
        return Bars({panel: bits | mine}, marked=(self.name,), digits=2)

    def observe(self, batch: TextChunks) -> "Observation":
        """Return a batch with all that views ask of its answers."""
        from agents.core.inspection.observation import RecurrentPart, observe

        batch = take(batch, 0, _STUDIED)
        moved = to_device(batch, self.device)
        with torch.inference_mode():
            answers = self.model(moved.text)[0].argmax(-1).cpu().numpy()
        known = self.task.probe_targets(batch)

        def score() -> dict[str, Tensor]:
            logits = self.model(moved.text)[0]
            asked = (moved.targets != UNKNOWN).sum(1).clamp(min=1)
            loss = F.cross_entropy(
                logits.transpose(1, 2), moved.targets, reduction="none", ignore_index=UNKNOWN
            )
            right = logits.argmax(-1) == moved.targets
            return {"accuracy": right.sum(1) / asked, "loss": loss.sum(1) / asked}

        def generate() -> tuple[Tensor, Tensor]:
            logits = self.model(moved.text)[0][:, -1:]
            return logits.argmax(-1), logits

        shown = tuple(self.task.spec.characters.replace("\0", NUL_SHOWN))
        characters = np.array(shown)
        part = RecurrentPart(
            "reader", self.model.recurrent, characters[batch.text], characters[answers],
            known.encoder, known.position_keys[0], score,
        )  # fmt: skip
        rows = self.task.rows(answers, batch)
        return observe(
            self, batch, rows=rows, recurrent=(part,), characters=shown, generate=generate,
            labels=[f"{row.question[-_LABELLED:]} → {row.answer}" for row in rows],
        )  # fmt: skip


def _draw(
    logits: NDArray[np.float32],
    temperature: float,
    top_k: int | None,
    fall: "float | NDArray[np.float64]",
) -> NDArray[np.int64]:
    """Return the code of each row of logits (B, V) on whose share of [0, 1) a number falls."""
    if temperature == 0:
        return np.asarray(logits.argmax(axis=1))
    scaled = logits.astype(np.float64)
    if top_k is not None and top_k < scaled.shape[1]:
        likeliest = np.argsort(-scaled, axis=1, kind="stable")  # of equal ones, the first
        np.put_along_axis(scaled, likeliest[:, top_k:], -np.inf, axis=1)
    with np.errstate(over="ignore"):  # at the least temperatures all others fall to -inf
        scaled = (scaled - scaled.max(axis=1, keepdims=True)) / temperature
    upto = np.exp(scaled).cumsum(axis=1)
    return np.asarray((upto <= fall * upto[:, -1:]).sum(axis=1))
