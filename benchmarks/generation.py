"""Characters a second that a language model writes, beside a bare loop over the same weights."""

from typing import Any

import torch
from torch import Tensor

import agents
from benchmarks.measure import Figures, in_turn, median, median_ratio, table
from tasks.core.task import TextChunks

ROUNDS = 5
LENGTH = 500  # characters of each text
TEXTS = (1, 64)  # that are written at once
PROMPT = 20  # characters
TEMPERATURE = 0.5


@torch.inference_mode()
def bare_loop(agent: Any, text: Tensor, length: int) -> Tensor:
    """Return codes (batch, length) that follow a text (batch, time), sampled one by one."""
    model = agent.model
    codes, state = [], None
    for _ in range(length):
        output, state = model.recurrent(model.characters(text), state)
        logits = model.readout(output[:, -1])
        text = torch.multinomial((logits / TEMPERATURE).softmax(-1), 1)
        codes.append(text)
    return torch.cat(codes, dim=1)


def measure(rounds: int = ROUNDS, length: int = 0) -> Figures:
    """Return the characters a second of `generate` and of the bare loop."""
    length = length or LENGTH
    agent: Any = agents.make(
        "char_lm", task="text", device="cpu", sample_length=length, temperature=TEMPERATURE
    )
    figures: Figures = {}
    for num in TEXTS:
        batch = agent.task.samples("test", num)
        prompt = TextChunks(*(array[:, :PROMPT] if array.ndim > 1 else array for array in batch))
        text = torch.as_tensor(prompt.text).long()
        assert agent.generate(prompt).shape == bare_loop(agent, text, length).shape
        times = in_turn(
            {
                "ours": lambda prompt=prompt: agent.generate(prompt),  # type: ignore[misc]
                "bare": lambda text=text: bare_loop(agent, text, length),  # type: ignore[misc]
            },
            rounds,
        )
        figures[f"{num} at once"] = {
            "characters_per_s": num * length / median(times["ours"]),
            "bare_characters_per_s": num * length / median(times["bare"]),
            "ratio": median_ratio(times["bare"], times["ours"]),
        }
    return figures


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [name, f"{f['characters_per_s']:,.0f}", f"{f['bare_characters_per_s']:,.0f}",
         f"{f['ratio']:.2f}"]
        for name, f in figures.items()
    ]  # fmt: skip
    return table(["char_lm, texts", "characters/s", "bare loop", "× its speed"], rows)
