"""What a step costs beside the arithmetic: a tiny perceptron in the loops of several programs.

Each has what it has by default: progress, logs and checkpoints. The network, fused Adam, clipping
and batches of 64 are the same; the arithmetic takes a third of the bare loop's step.
"""

from benchmarks.comparison import Field, Peer
from benchmarks.measure import Figures, median, median_ratio, table, tell

ROUNDS = 3
BARE = Peer("bare PyTorch loop", "tiny_loops", ("--loop", "bare"))
OURS = Peer("Terrarium", "tiny_loops", ("--loop", "terrarium"))
PEERS = (
    BARE,
    OURS,
    Peer("Lightning", "tiny_lightning", environment="lightning"),
    Peer("Trainer of Hugging Face", "tiny_transformers", environment="transformers"),
    Peer("skorch", "tiny_skorch", environment="skorch"),
)


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return the median µs of a step in each loop, and of the ratios to the bare one."""
    field = Field(PEERS)
    runs: dict[str, list[Figures]] = {}
    for number in range(rounds):
        for peer in list(field.peers):
            found = field.run(peer, ["--limit", str(steps)])
            if found is not None:
                runs.setdefault(peer.name, []).append(found)
                tell(f"round {number + 1}, {peer.name}: {found['us_per_step']:.0f} µs")
    times = {
        name: [run["us_per_step"] for run in mine] for name, mine in field.those_left(runs).items()
    }
    loops = {
        name: {
            "us_per_step": median(mine),
            "ratio": median_ratio(mine, times[BARE.name]),
            "versions": runs[name][0]["versions"],
        }
        for name, mine in times.items()
    }
    return {"missing": field.missing, "loops": loops}


def report(figures: Figures) -> str:
    """Return the figures as a table, and the peers that are missing."""
    rows = [
        [name, f"{f['us_per_step']:,.0f}", f"{f['ratio']:.2f}"]
        for name, f in figures["loops"].items()
    ]
    head = ["a step of a tiny perceptron, batch 64", "µs", "× bare loop"]
    return "\n\n".join([table(head, rows), *figures["missing"]])
