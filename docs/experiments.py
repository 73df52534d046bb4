"""The notes' experiments: `python docs/experiments.py` runs each as one command of main.py.

Results go to docs/experiments.json, from which docs/make_pictures.py draws. About 20 minutes.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "experiments.json"
RUNS = Path("runs") / "notes"

ADDER = "--agent seq2seq_adder"
NOTES = "--config configs/notes.yaml"
OLD = (  # the default recipe up to 0.4
    "--set schedule=one_cycle --set steps=18000 --set muon_learning_rate=0.035 "
    "--set target_score=null"
)
EXPERIMENTS = {
    "reversed, notes' recipe": NOTES,
    "reversed, notes' recipe, seed 1": f"{NOTES} --seed 1",
    "not reversed, notes' recipe": f"{NOTES} --set task.reverse=none",
    "not reversed, notes' recipe, seed 1": f"{NOTES} --set task.reverse=none --seed 1",
    "reversed": "--config configs/add3x2.yaml",
    "not reversed": "--config configs/add3x2.yaml --set task.reverse=none",
    "reversed, Adam": "--config configs/add3x2.yaml --set optimizer=adam",
    "reversed, Adam, 2,500 steps": (
        "--config configs/add3x2.yaml --set optimizer=adam --set steps=2500"
    ),
    "1 unit": "--config configs/add3x2.yaml --set hidden_size=1",
    "embedding": "--config configs/add3x2.yaml --set encoding=embedding",
    "2x2, 8 units": f"{ADDER} --task add2x2 {OLD} --set steps=3000 --set hidden_size=8",
    "2x2, 16 units": f"{ADDER} --task add2x2 {OLD} --set steps=3000 --set hidden_size=16",
    "2x2, 32 units": f"{ADDER} --task add2x2 {OLD} --set steps=3000 --set hidden_size=32",
    "3x3, 50,000 sums": f"{ADDER} --task add3x3 {OLD} --set task.num_samples=50000",
    "3x3, fresh sums": f"{ADDER} --task add3x3 {OLD}",
    "3x3, fresh sums, seed 1": f"{ADDER} --task add3x3 {OLD} --seed 1",
    "3x3, fresh sums, not reversed": f"{ADDER} --task add3x3 {OLD} --set task.reverse=none",
}


def run(name: str, arguments: str) -> dict[str, float | str]:
    """Run one experiment; return its command, seconds of learning and scores on the test."""
    folder = RUNS / re.sub(r"\W+", "-", name)
    command = f"main.py {arguments} --run-dir {folder}"  # goes on, if it was stopped
    subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, capture_output=True)
    lines = (ROOT / folder / "metrics.jsonl").read_text().splitlines()
    seconds = [r["time/seconds"] for r in map(json.loads, lines) if "time/seconds" in r]
    scores = json.loads((ROOT / folder / "test.json").read_text())
    return {"command": f"python main.py {arguments}", "seconds": round(seconds[-1], 1), **scores}


def main() -> None:
    """Run all experiments, or those named on the command line, one after the other."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[1:] or EXPERIMENTS:
        results[name] = run(name, EXPERIMENTS[name])
        print(name, results[name], flush=True)
        RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
