"""Checkpoints that are cut, or have flipped bits."""

from pathlib import Path

import agents
from agents.core.runs.checkpoint import CorruptCheckpointError, read
from agents.core.runs.run_folder import RunFolder
from torture.registry import Effort, Outcome, case


def trained(folder: Path) -> list[Path]:
    """Train an adder; return its checkpoints, latest first."""
    agent = agents.make(
        "seq2seq_adder", task="add2x2", device="cpu", hidden_size=12, batch_size=8, steps=6,
        save_every=3, eval_every=6, eval_samples=8, precision="fp32",
    )  # fmt: skip
    agent.learn(run_dir=folder, progress=False)
    return RunFolder(folder).checkpoints()


def problem_of(path: Path, data: bytes, whole: bytes) -> str:
    """Write damaged content in place of a run's latest checkpoint; return what went wrong."""
    folder = RunFolder(path.parents[1])
    path.write_bytes(data)
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        read(path)
        return "was read"
    except CorruptCheckpointError as error:
        if str(path) not in str(error):
            return f"is not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    else:
        return ""
    finally:
        path.write_bytes(whole)
    path.write_bytes(data)
    warnings: list[str] = []
    found = folder.latest_valid_checkpoint(warnings.append)
    kept = damaged.exists() and damaged.read_bytes() == data
    damaged.unlink(missing_ok=True)
    path.write_bytes(whole)
    if found is None or len(warnings) != 1 or not kept:
        return "no fall-back to the one before"
    return ""


def damaged(variants: dict[str, bytes], path: Path, remark: str) -> Outcome:
    """Try each damaged content."""
    whole = path.read_bytes()
    problems = {name: problem_of(path, data, whole) for name, data in variants.items()}
    failures = tuple(f"{name}: {problem}" for name, problem in problems.items() if problem)
    held = len(variants) - len(failures)
    return Outcome(tried=len(variants), held=held, remark=remark, failures=failures)


@case
def cut_checkpoints(effort: Effort) -> Outcome:
    """Checkpoint cut at every KB, and at 0 to 16 bytes: refused by name, the one before is used."""
    path = trained(effort.folder / "run")[0]
    data = path.read_bytes()
    ends = sorted({*range(17), *range(0, len(data), 1024), len(data) - 1})
    variants = {f"{end} bytes": data[:end] for end in ends}
    return damaged(variants, path, f"a file of {len(data):,} bytes")


def places(data: bytes) -> dict[str, tuple[int, int]]:
    """Return where the parts of a checkpoint file begin and end, in bytes."""
    header = 8 + int.from_bytes(data[:8], "little")
    digest = data.index(b'sha256\\":\\"') + len(b'sha256\\":\\"')
    padding = len(data[8:header]) - len(data[8:header].rstrip(b" "))
    found = {
        "length of the header": (0, 8),
        "header": (8, digest - 20),
        "digest": (digest, digest + 64),
        "plain values": (digest + 70, header - padding),
        "padding": (header - padding, header),
        "tensors": (header, len(data)),
    }
    return {name: span for name, span in found.items() if span[0] < span[1]}


@case
def flipped_bits(effort: Effort) -> Outcome:
    """One flipped bit in each part of a checkpoint: refused by name, the one before is used."""
    path = trained(effort.folder / "run")[0]
    data = path.read_bytes()
    variants = {}
    for name, (begin, end) in places(data).items():
        for _ in range(64):
            changed = bytearray(data)
            place, bit = effort.chance.randrange(begin, end), effort.chance.randrange(8)
            changed[place] ^= 1 << bit
            variants[f"{name}, bit {bit} of byte {place}"] = bytes(changed)
    return damaged(variants, path, f"in {', '.join(places(data))}")
