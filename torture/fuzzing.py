"""Fuzzing by coverage (atheris): `python -m torture.fuzzing TARGET SECONDS FOLDER` in a process."""

import contextlib
import json
import os
import re
import resource
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
    found: dict[str, str] = {}

    def one_input(data: bytes) -> None:
        try:
            target.read(inputs, data)
        except TerrariumError:
            return
        except Exception as error:
            problem = f"{type(error).__name__} at {_place_of(error)}"
            if problem not in found:
                found[problem] = repr(error)[:200]
                (folder / f"crash-{len(found)}").write_bytes(data)
                (folder / "found.json").write_text(json.dumps(found))

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
        counted = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
        found: dict[str, str] = {}
        with contextlib.suppress(OSError):
            found = json.loads((folder / "found.json").read_text())
        failures = [f"{place}: {text}" for place, text in found.items()]
        if done.returncode or counted is None:
            failures.append(f"the process ended with {done.returncode}: {done.stderr[-600:]!r}")
        num, seconds = (int(each) for each in counted.groups()) if counted else (0, 0)
        if failures and (kept := os.environ.get("TORTURE_KEEP")):
            folder.rename(Path(kept) / f"{name}-{time.time_ns()}")
        remark = f"{seconds or time.monotonic() - begin:.0f} s by coverage of agents and tasks"
        held = num - len(failures)
        return Outcome(tried=num, held=held, remark=remark, failures=tuple(failures))

    return run


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
