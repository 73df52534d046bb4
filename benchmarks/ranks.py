"""Two ranks of `torchrun`, one thread each, beside one process with two threads, in turns.

Each side is a process of its own that trains an agent as `learn` does, with a batch of the same
size; the figure of one side is the median of its records of samples per second, without the first
two, evaluations left out. `python -m benchmarks.ranks AGENT THREADS STEPS` is one side.
"""

import statistics
import sys

from benchmarks.measure import Figures, median, own, run_child, table, tell

ROUNDS = 5
STEPS = 240
GOAL = 1.0  # samples per second of two ranks over those of two threads, at least
TASKS = {"seq2seq_adder": "add3x3", "char_lm": "text", "cnn_classifier": "digits"}
_RECORDS = 12  # of one side


def train(name: str, threads: int, steps: int) -> float:
    """Return the samples per second of training one agent, in this process and its group."""
    import agents

    agent = agents.make(
        name, task=TASKS[name], device="cpu", threads=threads, steps=steps, eval_every=steps,
        log_every=max(1, steps // _RECORDS), eval_samples=2, record_diagnostics=False,
        target_score=None, target_loss=None,
    )  # fmt: skip
    agent.learn()
    return statistics.median(agent.history.series("time/samples_per_s")[1][2:])


def _side(name: str, ranks: int, steps: int) -> float:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = own(*(launcher if ranks > 1 else []), "-m", "benchmarks.ranks", name)
    threads = 2 // ranks
    variables = {"OMP_NUM_THREADS": str(threads), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return float(run_child([*command, str(threads), str(steps)], variables))


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return the median samples per second of both sides, and the median of their ratios."""
    figures: Figures = {}
    for name in TASKS:
        sides: dict[int, list[float]] = {1: [], 2: []}
        for number in range(rounds):
            for ranks in (1, 2) if number % 2 else (2, 1):
                sides[ranks].append(_side(name, ranks, steps or STEPS))
        ratios = [two / one for one, two in zip(sides[1], sides[2], strict=True)]
        figures[name] = {
            "one_process": median(sides[1]),
            "two_ranks": median(sides[2]),
            "ratio": median(ratios),
        }
        tell(f"{name}: two ranks are {figures[name]['ratio']:.2f} times as fast as two threads")
    return figures


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    head = ["samples per second", "1 process, 2 threads", "2 ranks, 1 thread each", "ratio"]
    rows = [
        [name, f"{f['one_process']:,.0f}", f"{f['two_ranks']:,.0f}", f"{f['ratio']:.2f}"]
        for name, f in figures.items()
    ]
    return table(head, [*rows, ["goal", "", "", f"≥ {GOAL}"]])


def main() -> None:
    """Train one side; rank 0 prints its samples per second."""
    from agents.core.training.launch import is_main

    name, threads, steps = sys.argv[1:]
    rate = train(name, int(threads), int(steps))
    if is_main():
        print(rate)


if __name__ == "__main__":
    main()
