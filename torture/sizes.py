"""Sizes beyond memory, in a process whose address space is limited: errors, and never a kill."""

import struct
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from torture.commands import CORRUPT, MEMORY, MISTAKE, Tally, Write, end, learn, main_py, wrong_end
from torture.files import png_bomb
from torture.registry import Effort, Outcome, case

_LIMIT = 6 * 2**30  # bytes of address space (RLIMIT_AS)
_TIB = 2**40


def _adder(*settings: str) -> Write:
    """Return how to train the adder with settings."""
    return lambda folder: learn("seq2seq_adder", "add2x2", folder, *settings)


def _sparse(path: Path) -> Path:
    """Make a file of 1 TiB that takes no space."""
    with path.open("wb") as file:
        file.truncate(_TIB)
    return path


def _of_file(agent: str, task: str, setting: str, name: str) -> Write:
    def write(folder: Path) -> list[str]:
        return learn(agent, task, folder, f"task.{setting}={_sparse(folder / name)}")

    return write


def _page(folder: Path) -> list[str]:
    Image.new("L", (9, 9)).save(folder / "0.png")
    path = _sparse(folder / "0.xml")
    with path.open("r+b") as file:
        file.write(b"<PcGts>")
    return learn("ctc_reader", "page_xml", folder, f"task.path={folder}")


def _words_of_iam(folder: Path) -> list[str]:
    _sparse(folder / "lines.txt")
    (folder / "forms.txt").write_text("a01-000 000\n")
    return learn("ctc_reader", "iam", folder, f"task.path={folder}")


def _scans(folder: Path) -> list[str]:
    images, labels = (_sparse(folder / name) for name in ("images", "labels"))
    for path, sizes in ((images, (2**20, 2**10, 2**10)), (labels, (2**20,))):
        with path.open("r+b") as file:
            file.write(bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes))
    names = [f"task.{path.name}={path}" for path in (images, labels)]
    return learn("cnn_classifier", "mnist", folder, *names)


def _picture(folder: Path) -> list[str]:
    (folder / "large.png").write_bytes(png_bomb(60_000))
    small = "channels=2", "batch_size=8", "eval_samples=8"
    done = end(main_py(*learn("cnn_classifier", "digits", folder, *small)))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    run = ["--mode", "predict", "--run-dir", str(folder / "run"), "--device", "cpu"]
    return [*run, "--input", str(folder / "large.png")]


INPUTS: Mapping[str, tuple[Write, int, str]] = {
    "hidden_size of 10^6": (_adder("hidden_size=1000000"), MISTAKE, "seq2seq_adder"),
    "hidden_size of 10^12": (_adder(f"hidden_size={10**12}"), MISTAKE, "seq2seq_adder"),
    "hidden_size of 10^30": (_adder(f"hidden_size={10**30}"), MISTAKE, "hidden_size"),
    "steps of 10^30": (_adder(f"steps={10**30}"), MISTAKE, "steps"),
    "10^9 layers": (_adder(f"num_layers={10**9}"), MISTAKE, "seq2seq_adder"),
    "batch_size of 10^12": (_adder(f"batch_size={10**12}"), MEMORY, "out of memory"),
    "eval_samples of 10^12": (_adder(f"eval_samples={10**12}"), MEMORY, "out of memory"),
    "settings of 1 TiB": (
        lambda folder: ["--config", str(_sparse(folder / "a.yaml"))], MISTAKE, "a.yaml",
    ),
    "settings without an end": (lambda _: ["--config", "/dev/zero"], MISTAKE, "/dev/zero"),
    "checkpoint of 1 TiB": (
        lambda folder: [*_adder()(folder), "--resume", str(_sparse(folder / "a.safetensors"))],
        CORRUPT, "a.safetensors",
    ),
    "text of 1 TiB": (_of_file("char_lm", "text", "path", "a.txt"), MISTAKE, "a.txt"),
    "PAGE XML of 1 TiB": (_page, MISTAKE, "0.xml"),
    "lines.txt of IAM of 1 TiB": (_words_of_iam, MISTAKE, "lines.txt"),
    "idx of 1 TiB": (_scans, MISTAKE, "/images"),
    "picture of 3.6 · 10^9 pixels": (_picture, MISTAKE, "large.png"),
}  # fmt: skip


@case
def huge_inputs(effort: Effort) -> Outcome:
    """Sizes beyond the memory of the process (RLIMIT_AS): a message and an exit code, no kill."""
    tally = Tally()
    for number, (name, (write, code, names)) in enumerate(INPUTS.items()):
        folder = effort.folder / f"{number}"
        folder.mkdir()
        done = end(["prlimit", f"--as={_LIMIT}", *main_py(*write(folder))])
        tally.add(name, wrong_end(done, code, names))
    return tally.outcome(f"{', '.join(INPUTS)}; within {_LIMIT // 2**30} GiB")
