"""Grokking modular addition, and what the network does: figures and pictures of its page.

`python docs/modular_addition.py` trains the network of `configs/modadd53.yaml` with two seeds (each
about five minutes of one thread) and an adder (two minutes), prints what docs/modular_addition.md
says of them, and draws its pictures. Runs that are done are taken as they are.
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np
from make_pictures import ROOT, save

import agents
from agents.core.agent import Agent
from agents.modadd_transformer import ModaddTransformer
from agents.transformer_adder import TransformerAdder
from visualization import render
from visualization.circuits import FrequencySpectra

RUNS = ROOT / "runs" / "circuits"
GROKS = "--config configs/modadd53.yaml --set threads=1"
ADDER = "--agent transformer_adder --task add3x2 --set steps=800 --set threads=1"
DPI = 80
BETWEEN = 500  # steps: after memorisation, before the withheld pairs are right


def train(name: str, arguments: str) -> tuple[Agent, list[dict[str, Any]]]:
    """Run one command in a folder, if it is not done; return the agent at its end, and records."""
    folder = RUNS / name
    if not (folder / "best.safetensors").exists():
        command = f"main.py {arguments} --run-dir {folder}"
        subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True)
    last = max((folder / "checkpoints").glob("*.safetensors"))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return agents.load(last, "cpu"), records


def milestones(records: list[dict[str, Any]]) -> str:
    """Return when validation accuracy was above 99 %, in steps and seconds of training."""
    seconds = {row["step"]: row["time/seconds"] for row in records if "time/seconds" in row}
    step = next(row["step"] for row in records if row.get("eval/accuracy", 0) > 0.99)
    last = max(seconds)
    words = f"99 % of validation at step {step:,}, {seconds[step]:.0f} s"
    return f"{words}; {last:,} steps in {seconds[last]:.0f} s"


def neurons(record: FrequencySpectra) -> str:
    """Return how many neurons are explained by one frequency."""
    shares = record.neuron_shares[record.neuron_frequencies > 0]
    return f"{(shares > 0.9).sum()} of {len(shares)} neurons are explained to more than 90 %"


def mirrors(agent: ModaddTransformer) -> str:
    """Return how many withheld pairs are right half-way: mirrors of training pairs, and others."""
    states = agent.snapshots.states(print)
    step = min(states, key=lambda step: abs(step - BETWEEN))
    a, b = np.mgrid[: agent.modulus, : agent.modulus]
    right = agent.logits_of_pairs(states[step]).argmax(-1) == (a + b) % agent.modulus
    withheld, mirrored = ~agent.is_train, agent.is_train.T
    shares = [right[withheld & of].mean() for of in (mirrored, ~mirrored)]
    return f"step {step}: mirrors of training pairs {shares[0]:.1%} right, others {shares[1]:.1%}"


def modular_addition(seed: int) -> ModaddTransformer:
    """Train with one seed, and print what it does."""
    agent, records = train(f"modadd53-s{seed}", f"{GROKS} --seed {seed}")
    assert isinstance(agent, ModaddTransformer)
    spectra = agent.frequency_spectra()
    print(f"\nseed {seed}: {milestones(records)}; test {agent.evaluate()}")
    print(mirrors(agent))
    print(neurons(spectra), spectra.key_frequencies, f"{spectra.gini:.2f}")
    for record in agent.frequency_ablation().values():
        print(render.text(record))
    return agent


def pictures(agent: ModaddTransformer) -> None:
    """Draw what is seen of the first network."""
    progress = agent.progress_measures()
    print(render.text(progress))
    save("modadd_progress", progress, DPI)
    save("modadd_spectra", agent.frequency_spectra(), DPI)
    save("modadd_ablation", agent.frequency_ablation()["embedding"], DPI)
    save("modadd_logits", agent.logit_attribution(), DPI)


def adder() -> None:
    """Draw attention rollout and attribution of logits of a Transformer that adds."""
    agent, _ = train("adder", ADDER)
    assert isinstance(agent, TransformerAdder)
    save("transformer_rollout", agent.attention_rollout()["decoder"])
    record = agent.logit_attribution()
    print(render.text(record))
    save("transformer_logits", record)


def main() -> None:
    """Make all figures and pictures of the page."""
    RUNS.mkdir(parents=True, exist_ok=True)
    first, _ = modular_addition(0), modular_addition(1)
    pictures(first)
    adder()


if __name__ == "__main__":
    main()
