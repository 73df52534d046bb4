"""The pictures and figures of docs/question_relevance.md: `python docs/question_relevance.py`.

Trains three small adders and three networks on the adding problem (minutes of one thread), or
takes their finished runs, and prints how faithful each attribution to the characters of a question
is, and through which gates a changed digit goes.
"""

import subprocess
import sys

import numpy as np
import torch
from make_pictures import ROOT, save

import agents
from agents.core.agent import Agent
from agents.core.inspection.relevance import RelevanceViews
from visualization import render
from visualization.recurrent import QuestionRelevance, StepScores, question_relevance

RUNS = "runs/relevance"
SEEDS = (0, 1, 2)
ADDER = "--agent seq2seq_adder --task add2x2 --set hidden_size=64 --set steps=1200"
ADDING = "--agent adding_lstm --task adding_problem --set task.length=30"
NUM, NODES = 100, 256  # questions, and nodes of integrated gradients
DPI = 85


def trained(name: str, arguments: str, seed: int) -> Agent:
    """Return an agent, trained in a folder of its own unless it is there."""
    folder = f"{RUNS}/{name}-{seed}"
    command = f"main.py {arguments} --seed {seed} --set threads=1 --run-dir {folder}"
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, capture_output=True)
    agent: Agent = agents.load(ROOT / folder / "best.safetensors", "cpu")
    print(f"\npython {command}\n   ", {k: round(v, 4) for k, v in agent.evaluate().items()})
    return agent


def relevance(agent: Agent, num: int) -> QuestionRelevance:
    """Return the relevance of the characters of test questions for the agent's answers."""
    observation = agent.observe(agent.task.for_display().samples("test", num))
    part, own = observation.recurrent[0], observation.answer_scores
    assert own is not None
    scores = StepScores(
        model=agent.model, rnn=part.layer, respond=own.scores, num_samples=num
    )  # fmt: skip
    symbols = part.text if part.input_symbols is None else part.input_symbols
    return question_relevance(
        scores, symbols, own.texts, quantity=own.quantity, num_nodes=NODES, num_random=10
    )


def adder(seed: int) -> None:
    """Print and draw what a small adder's answers depend on."""
    agent = trained("adder", ADDER, seed)
    print(render.text(relevance(agent, NUM)))
    paths = RelevanceViews(agent).gate_paths()["encoder"]
    print(render.text(paths))
    if seed == SEEDS[0]:
        save("question_relevance", relevance(agent, 6), DPI)
        save("gate_paths", paths, DPI)


def adding(seed: int) -> None:
    """Print how the relevance of marked numbers goes with their values (Arras et al. 2019)."""
    agent = trained("adding", ADDING, seed)
    record = relevance(agent, NUM)
    series = agent.task.for_display().samples("test", NUM).series
    value, is_marked = series[..., 0], series[..., 1] > 0
    for name, found in record.relevance.items():
        each = found[:, 0]
        share = np.abs(each[is_marked]).sum() / np.abs(each).sum()
        together = np.corrcoef(each[is_marked], value[is_marked])[0, 1]
        means = f"mean {each[is_marked].mean():.3f} for values of {value[is_marked].mean():.3f}"
        print(f"    {name}: marked numbers have {share:.1%} of it; r = {together:.3f}, {means}")
    print(render.text(record))
    if seed == SEEDS[0]:
        print(render.text(RelevanceViews(agent).gate_paths()["reader"]))


def main() -> None:
    """Train, attribute, patch, draw."""
    torch.set_num_threads(1)
    for seed in SEEDS:
        adder(seed)
    for seed in SEEDS:
        adding(seed)


if __name__ == "__main__":
    main()
