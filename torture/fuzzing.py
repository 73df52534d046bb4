"""Fuzzing by coverage (atheris): `python -m torture.fuzzing TARGET SECONDS FOLDER` in a process."""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.helpers.ranks import finished
from torture.registry import Effort, Outcome, SkippedError, case

_MEMORY = 2048  # MiB, beyond which libFuzzer ends a process
_ADDRESSES = 6 * 2**30  # bytes of address space, so that what is too large for it is refused
_SLOW = 20  # seconds for one input, likewise
_FOUND = "found.json"
_WHERE = re.compile(r"/(agents|tasks|visualization)/")


def main() -> None:
    """Fuzz a target until its time is over; write what came out of it into its folder."""
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    name, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    with atheris.instrument_imports(include=["agents", "tasks"]):
        from tasks.core.settings import TerrariumError
        from torture.fuzz_targets import TARGETS
    target, corpus = TARGETS[name], folder / "corpus"
    corpus.mkdir()
    for number, example in enumerate(target.examples()):
        (corpus / f"{number}").write_bytes(example)
    inputs = folder / "inputs"
    inputs.mkdir()
    texts, counts = dict[str, str](), dict[str, int]()

    def one_input(data: bytes) -> None:
        try:
            target.read(inputs, data)
        except TerrariumError:
            return
        except Exception as error:
            problem = f"{type(error).__name__} at {_place_of(error)}"
            counts[problem] = counts.get(problem, 0) + 1
            if problem not in texts:
                texts[problem] = repr(error)[:200]
                (folder / f"crash-{len(texts)}").write_bytes(data)
            (folder / _FOUND).write_text(json.dumps({"texts": texts, "counts": counts}))

    words = [f"-max_total_time={seconds:.0f}", f"-rss_limit_mb={_MEMORY}", f"-timeout={_SLOW}"]
    words += ["-max_len=16384", f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup([sys.argv[0], *words], one_input)
    atheris.Fuzz()


def _place_of(error: BaseException) -> str:
    """Return the last line of this project that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _WHERE.search(frame.filename)]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def fuzzed(name: str) -> Callable[[Effort], Outcome]:
    """Return the case that fuzzes a target."""

    def run(effort: Effort) -> Outcome:
        try:
            import atheris  # noqa: F401  (is it there?)
        except ImportError:
            raise SkippedError("it needs atheris: pip install atheris, or .[fuzz]") from None
        folder = effort.folder / name
        folder.mkdir()
        words = [sys.executable, "-m", "torture.fuzzing", name, f"{effort.seconds}", str(folder)]
        begin = time.monotonic()
        done = finished(words, effort.seconds * 3 + 300)
        outcome = outcome_of(done, folder, time.monotonic() - begin)
        if outcome.failures and (kept := os.environ.get("TORTURE_KEEP")):
            folder.rename(Path(kept) / f"{name}-{time.time_ns()}")
        return outcome

    return run


def outcome_of(done: "subprocess.CompletedProcess[str]", folder: Path, elapsed: float) -> Outcome:
    """Return how many inputs a process of fuzzing tried, and how many of them did not hold.

    Args:
        done: the process; one that ended otherwise than it should met one more bad input.
        folder: in which it kept what it found.
        elapsed: seconds that it took, in case it does not say so.
    """
    texts, counts = dict[str, str](), dict[str, int]()
    with contextlib.suppress(OSError):
        found = json.loads((folder / _FOUND).read_text())
        texts, counts = found["texts"], found["counts"]
    failures = [f"{place}, {counts[place]} times: {text}" for place, text in texts.items()]
    failing = sum(counts.values())
    counted = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    if done.returncode or counted is None:
        failures.append(f"the process ended with {done.returncode}: {done.stderr[-600:]!r}")
        failing += 1
    seen = [int(number) for number in re.findall(r"^#(\d+)\t", done.stderr, re.MULTILINE)]
    tried = max(int(counted[1]) if counted else max(seen, default=0), failing)
    seconds = int(counted[2]) if counted else round(elapsed)
    remark = f"{seconds} s by coverage of agents and tasks"
    return Outcome(tried=tried, held=tried - failing, remark=remark, failures=tuple(failures))


_SUBJECTS = {
    "settings": "files of settings", "options": "options of the command line",
    "checkpoint": "checkpoints", "idx": "idx files", "page_xml": "PAGE XML", "alto": "ALTO",
    "iam": "lists of IAM", "coco": "COCO files", "yolo": "YOLO files", "image": "image files",
}  # fmt: skip
for _name, _subject in _SUBJECTS.items():
    _case = fuzzed(_name)
    _case.__name__ = f"fuzz_{_name}"
    _case.__doc__ = f"Fuzzed {_subject}: nothing but the project's own errors comes out."
    case(_case)


if __name__ == "__main__":
    main()
