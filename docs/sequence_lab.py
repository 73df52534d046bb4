"""The pictures and figures of docs/sequence_lab.md: `python docs/sequence_lab.py`. Two minutes."""

import json
import subprocess
import sys
from typing import Any

from make_pictures import ROOT, save

import agents
from visualization.curves import Curves

RUNS = "runs/lab"
COMMAND = "--agent parity_lstm --task parity"
SEEDS = 5
DPI = 75


def run(name: str, arguments: str) -> dict[str, Any]:
    """Run one command in its folder; return its scores on the test, and the seconds of learning."""
    command = f"main.py {arguments} --run-dir {RUNS}/{name}"
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, capture_output=True)
    folder = ROOT / RUNS / name
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    seconds = [r["time/seconds"] for r in map(json.loads, lines) if "time/seconds" in r]
    scores = json.loads((folder / "test.json").read_text())
    print(f"python main.py {arguments}: {scores}, {seconds[-1]:.1f} s")
    return scores


def main() -> None:
    """Train with and without stages, draw the losses and the automaton."""
    for seed in range(SEEDS):
        run(f"parity-s{seed}", f"{COMMAND} --seed {seed}")
    run("parity-at-once", f"{COMMAND} --set raise_below=null")
    run("mod3", "--agent parity_lstm --task mod3")
    staged, plain = (
        agents.load(ROOT / RUNS / name / "checkpoints" / "step-000002000.safetensors", "cpu")
        for name in ("parity-s0", "parity-at-once")
    )
    save("parity_loss", Curves({
        "training loss, nats": {
            "in stages": staged.history.series("train/loss"),
            "at full length from the start": plain.history.series("train/loss"),
        },
        "stage (sequences of at most 2 to this power bits)": {
            "stage": staged.history.series("train/stage"),
        },
    }), DPI)  # fmt: skip
    for name in ("parity-s0", "mod3"):
        agent = agents.load(ROOT / RUNS / name / "best.safetensors", "cpu")
        machine = agent.inspect(["automaton"])["automaton"]["reader"]
        print(f"{name}: {machine.num_states} states, agreement {machine.agreement:.4f}")
        save(f"automaton_{name.split('-')[0]}", machine, DPI)


if __name__ == "__main__":
    main()
