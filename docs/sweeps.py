"""The pictures of docs/sweeps.md: `python docs/sweeps.py`.

Searches the settings of a classifier that reads scans of digits row by row: 16 trials of 150 steps
with two seeds, by two workers. Five minutes; trials that are done are not run again.
"""

import shlex
import subprocess
import sys

from make_pictures import ROOT, save

from agents.cli.modes import MODES
from agents.cli.options import parse
from agents.cli.run_spec import parse_run_spec
from agents.cli.sweep import plan_of, results_of
from agents.cli.sweep_report import views_of

COMMAND = (
    "--agent digits_lstm --task digits --mode sweep --run-dir runs/search "
    "--search learning_rate=1e-4..0.1:log --search hidden_size=8..64:log --search cell=lstm,gru "
    "--set steps=150 --set batch_size=64 --set eval_every=50 --set optimizer=adam "
    "--trials 16 --seeds 0,1 --workers 2"
)


def main() -> None:
    """Search, and draw what was found."""
    command = shlex.split(COMMAND)
    subprocess.run([sys.executable, "main.py", *command], cwd=ROOT, check=True)
    plan = plan_of(parse_run_spec(parse(command), MODES), MODES)
    views = views_of(results_of(plan), is_grid=False)
    save("sweep_parallel", views["parallel"], 90)
    save("sweep_slices", views["slices"], 90)


if __name__ == "__main__":
    main()
