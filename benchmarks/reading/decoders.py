"""Decoders by name: `beam + LM` is the setting `decoder=beam` with a language model, and so on.

What comes after the plus is made of the training split's texts: LM, character n-grams whose weights
are tuned on validation; lexicon, the words.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from agents.core.agent import Agent
from agents.core.decoding.decoders import own_rows
from agents.core.decoding.language_model import NgramModel, NgramScorer
from agents.core.decoding.tuning import tune_fusion
from agents.core.line_encoder import columns_of
from agents.core.runs.checkpoint import atomic_write
from agents.core.training.loop import to_device
from benchmarks.reading.recipes import BATCH_SIZE, LM_ORDER, NUM_TUNING_LINES, TUNING
from tasks.core.task import Task
from visualization.core.preserve import evaluation_mode

_MODEL, _WORDS, _FUSION = "characters.arpa", "words.txt", "fusion.json"


def settings_of(
    name: str, agent: Agent, folder: Path, num_passes: int, digest: str, limit: int = 0
) -> dict[str, Any]:
    """Return the agent's settings of a decoder; files that it needs are made once in the folder.

    Args:
        name: such as `beam + LM`; empty: the agent has no decoder.
        agent: as trained.
        folder: of its run.
        num_passes: over the training split, for its texts.
        digest: of the weights, for which the weight of the language model is tuned.
        limit: validation lines for that, at most; 0: `NUM_TUNING_LINES`.
    """
    if not name:
        return {}
    decoder, *extras = name.split(" + ")
    settings: dict[str, Any] = {"decoder": decoder}
    if "LM" in extras:
        path, num = folder / _MODEL, min(limit or NUM_TUNING_LINES, NUM_TUNING_LINES)
        if not path.exists():
            texts = training_texts(agent.task, agent.config.seed, num_passes)
            NgramModel.estimate(texts, LM_ORDER).write(path)
        settings |= {"language_model": str(path), **_fusion(agent, folder, digest, num)}
    if "lexicon" in extras:
        path = folder / _WORDS
        if not path.exists():
            texts = training_texts(agent.task, agent.config.seed, num_passes)
            words = sorted({word for text in texts for word in text.split()})
            atomic_write(path, "\n".join(words).encode())
        settings["lexicon"] = str(path)
    return settings


@contextlib.contextmanager
def using(agent: Agent, settings: Mapping[str, Any]) -> Iterator[None]:
    """Let the agent have other settings of decoding in a `with` block, and its own after it."""
    own = agent.config
    agent.config = attrs.evolve(own, **settings)
    try:
        yield
    finally:
        agent.config = own


def training_texts(task: Task, seed: int, num_passes: int) -> list[str]:
    """Return what the lines of the training split say, in some passes over it."""
    return [
        text
        for epoch in range(num_passes)
        for batch in task.batches("train", BATCH_SIZE, seed, epoch)
        for text in task.decode(task.targets(batch))
    ]


def _fusion(agent: Agent, folder: Path, digest: str, num: int) -> dict[str, float]:
    """Return the best weight of the language model and bonus for length, on validation."""
    path, tuned_for = folder / _FUSION, [digest, num]
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("tuned_for") != tuned_for:
        best = _tuned(agent, NgramModel.read(folder / _MODEL), num)
        found = {"tuned_for": tuned_for, "settings": best}
        atomic_write(path, json.dumps(found).encode())
    settings: dict[str, float] = found["settings"]
    return settings


def _tuned(agent: Agent, model: NgramModel, num: int) -> dict[str, float]:
    characters = agent.task.spec.characters
    rows, texts = zip(*itertools.islice(_validation_lines(agent), num), strict=True)
    best = tune_fusion(
        rows, texts, characters, lambda weight: NgramScorer(model, characters, weight), **TUNING
    )[0]
    return {"lm_weight": best.lm_weight, "length_bonus": best.length_bonus}


def _validation_lines(agent: Agent) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Yield ln p (T, V) of the columns of validation lines, and what they say."""
    task = agent.task
    for batch in task.batches("validation", BATCH_SIZE, 0, 0):
        moved = to_device(batch, agent.device)
        with evaluation_mode(agent.model), torch.inference_mode():
            rows = own_rows(agent.model(moved.image, moved.width), columns_of(moved.width))
        yield from zip(rows, task.decode(task.targets(batch)), strict=True)
