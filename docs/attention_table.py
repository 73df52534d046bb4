"""Adders with and without attention, and sums longer than they were shown.

`python docs/attention_table.py` trains each on sums of at most three digits in a field of five, for
at most two minutes each, and prints what docs say of them: one table of scores, and for those with
attention where they look, and what goes wrong when they may not. Runs that are done are taken as
they are; all of them take about ten minutes of one thread.
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from make_pictures import ROOT, save
from numpy.typing import NDArray

import agents
from agents.core.agent import Agent
from agents.core.inspection.report import cost
from tasks.core.task import TextPairs

RUNS = "runs/lab"
TASK = "--task add5x2 --set task.train_digits=3 --set threads=1"
AGENTS = {
    "seq2seq": "--agent seq2seq_adder --set steps=2500 --set schedule=one_cycle "
    "--set muon_learning_rate=0.035 --set target_score=null",
    "attention": "--agent attention_adder --set steps=1600",
    "transformer": "--agent transformer_adder --set steps=800",
    "transformer, rotary": "--agent transformer_adder --set steps=800 --set positions=rotary",
}
SEEDS = (0, 1)
PICTURES = {("attention", ""): "attention_maps", ("transformer", "layer 2"): "attention_heads"}
SHOWN = 3  # digits, in training
NUM = 10_000  # test sums
DPI = 75


def folder(name: str, seed: int) -> str:
    """Return a run's folder."""
    return f"{RUNS}/long-{name.replace(', ', '-')}-s{seed}"


def train(name: str, seed: int) -> tuple[Agent, float]:
    """Run one command in its folder; return the trained agent and its seconds of learning."""
    arguments = f"{AGENTS[name]} {TASK} --seed {seed}"
    command = f"main.py {arguments} --run-dir {folder(name, seed)}"
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, capture_output=True)
    path = ROOT / folder(name, seed)
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    seconds = [line["time/seconds"] for line in lines if "time/seconds" in line]
    print(f"python main.py {arguments}", file=sys.stderr)
    return agents.load(path / "best.safetensors", "cpu"), seconds[-1]


def longest_terms(agent: Agent, batch: TextPairs) -> NDArray[np.int64]:
    """Return the digits of each sum's longer term (N,)."""
    questions = [row.question for row in agent.task.rows(batch.answer, batch)]
    return np.array([max(map(len, question.split("+"))) for question in questions])


def scores(agent: Agent) -> list[float]:
    """Return exact match of sums of at most 3 digits, of 4 and of 5."""
    answers, batch = agent.predict_split("test", NUM)
    right = (answers == batch.answer).all(axis=1)
    digits = longest_terms(agent, batch)
    return [float(right[at].mean()) for at in (digits <= SHOWN, digits == 4, digits == 5)]


def right_by_column(agent: Agent, batch: TextPairs, hidden: NDArray[np.bool_]) -> list[float]:
    """Return the share of right digits in the columns 0, 1, 2 with places hidden from attention.

    The encoder has read them; the decoder may not look there (N, Q). Every digit is written after
    the right ones, so that a wrong one does not move the others.
    """
    model: Any = agent.model
    with torch.inference_mode():
        memory = model.encode(torch.as_tensor(batch.question).long())
        visible = memory.visible & ~torch.as_tensor(hidden)
        answer = torch.as_tensor(batch.answer).long()
        written = model.decode(memory._replace(visible=visible), answer).argmax(-1).numpy()
    column = agent.task.probe_targets(batch).decoder["column"]
    return [float((written == batch.answer)[column == k].mean()) for k in range(SHOWN)]


def hiding(agent: Agent) -> list[tuple[str, list[float]]]:
    """Return what is still right of sums of two terms of three digits with a column hidden."""
    sums = agent.task.samples("test", 2 * NUM)
    known = agent.task.probe_targets(sums).encoder
    reads = known["column"]
    digits = (reads >= 0).sum(axis=1)
    whole = ((digits == 2 * SHOWN) & (reads.max(axis=1) == SHOWN - 1)).nonzero()[0]
    batch = TextPairs(*(array[whole] for array in sums))
    reads, terms = reads[whole], known["term"][whole]
    found = [("nothing", right_by_column(agent, batch, reads == -2))]
    for k, name in enumerate(("units", "tens", "hundreds")):
        found.append((name, right_by_column(agent, batch, reads == k)))
    for number, name in enumerate(("first", "second")):
        hidden = (reads == 0) & (terms == number)
        found.append((f"units of the {name} term", right_by_column(agent, batch, hidden)))
    hidden = np.ones(reads.shape, bool)
    hidden[:, -1] = False
    found.append(("all but the last character read", right_by_column(agent, batch, hidden)))
    return found


def draw(name: str, agent: Any) -> None:
    """Draw maps of sums of a length that was shown, and print where the weight lies."""
    found = agent.attention_maps()
    maps = found if isinstance(found, dict) else {"": found}
    for layer, record in maps.items():
        shown = [n for n, label in enumerate(record.labels) if _is_short(label)][:6]
        if (name, layer) in PICTURES:
            save(PICTURES[name, layer], record.take(shown), DPI)
        for number, head in enumerate(record.names):
            on_column = record.shares["column"][number]
            chance, largest = record.by_chance["column"], record.largest[number]
            print(f"| {name} | {layer} {head} | {largest:.2f} | {on_column:.2f} | {chance:.2f} |")


def _is_short(label: str) -> bool:
    terms = label.split(" = ")[0].split("+")
    return all(len(term) == SHOWN for term in terms)


def main() -> None:
    """Train all, print the tables and draw the maps."""
    trained = {(name, seed): train(name, seed) for name in AGENTS for seed in SEEDS}
    print("\n| agent | seed | parameters | learning | up to 3 digits | 4 digits | 5 digits |")
    print("|---|---|---|---|---|---|---|")
    for (name, seed), (agent, seconds) in trained.items():
        numbers = " | ".join(f"{100 * score:.1f} %" for score in scores(agent))
        size = f"{cost(agent).num_parameters:,}"
        print(f"| {name} | {seed} | {size} | {seconds:.0f} s | {numbers} |")
    looking = {name: trained[name, 0][0] for name in AGENTS if name != "seq2seq"}
    print("\n| agent | may not look at | units right | tens right | hundreds right |")
    print("|---|---|---|---|---|")
    for name, agent in looking.items():
        for hidden, rights in hiding(agent):
            numbers = " | ".join(f"{100 * right:.1f} %" for right in rights)
            print(f"| {name} | {hidden} | {numbers} |")
    print("\n| agent | map | largest weight | on the column being written | by chance |")
    print("|---|---|---|---|---|")
    for name, agent in looking.items():
        draw(name, agent)


if __name__ == "__main__":
    main()
