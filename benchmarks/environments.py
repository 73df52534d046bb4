"""Environments of the peers, each in `.bench/<name>`: TensorFlow and TensorBoard disagree."""

import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import ChildError, own, run_child, tell
from benchmarks.peers.common import BENCH

_COMPLETE = "complete.txt"  # written last: an environment without it is made anew


@dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes:
        choices: lists of requirements, of which the first that can be installed is taken.
        modules: what must be importable afterwards.
        variables: environment variables that the peer runs with.
        shares_torch: take torch and all else that is there from the running interpreter: pip sees
            it, and installs what is missing only.
    """

    choices: tuple[tuple[str, ...], ...]
    modules: str
    variables: Mapping[str, str] = field(default_factory=dict)
    shares_torch: bool = False


ENVIRONMENTS = {
    "keras-jax": Environment(
        (("keras", "jax"),), "jax, keras", {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    ),
    "keras-tensorflow": Environment(
        (("keras", "tensorflow-cpu"), ("keras", "tensorflow")),
        "tensorflow, keras",
        {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    ),
    "lightning": Environment(
        (("lightning", "pytorch-lightning", "lightning-utilities", "torchmetrics"),),
        "torch, lightning",
        shares_torch=True,
    ),
    "transformers": Environment(
        (("transformers", "accelerate"),),
        "torch, transformers, accelerate",
        {"HF_HUB_OFFLINE": "1"},
        shares_torch=True,
    ),
    "skorch": Environment((("skorch",),), "torch, skorch", shares_torch=True),
    # It takes torch up to 2.14.0 only, and one thread is what the agents have.
    "kraken": Environment((("kraken>=7.1,<7.2",),), "kraken, lightning", {"OMP_NUM_THREADS": "1"}),
}


@dataclass(frozen=True)
class Prepared:
    """An environment's interpreter, or the reason why there is none."""

    python: Path | None
    reason: str = ""


def prepare(name: str) -> Prepared:
    """Return an environment by name, made unless it is already complete; never raise."""
    environment, folder = ENVIRONMENTS[name], BENCH / name
    python = folder / "bin" / "python"
    shared = _own_packages() if environment.shares_torch else ""
    wanted = f"{sys.version}\n{environment.choices}\n{shared}"
    mark = folder / _COMPLETE
    try:
        if python.exists() and mark.exists() and mark.read_text() == wanted:
            return Prepared(python)
        mark.unlink(missing_ok=True)
        tell(f"making {BENCH.name}/{name} …")
        _make(environment, folder, python)
        mark.write_text(wanted)
    except (ChildError, OSError) as error:
        return Prepared(None, str(error))
    return Prepared(python)


def _make(environment: Environment, folder: Path, python: Path) -> None:
    run_child(own("-m", "venv", "--clear", str(folder)))
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if environment.shares_torch:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(run_child([str(python), "-c", ask]).strip())
        (packages / "shared_torch.pth").write_text(_own_packages())
    _install_first(pip, environment.choices)
    run_child([str(python), "-c", f"import {environment.modules}"], environment.variables)


def _install_first(pip: Sequence[str], choices: Sequence[Sequence[str]]) -> None:
    reasons = []
    for requirements in choices:
        try:
            run_child([*pip, *requirements])
        except ChildError as error:
            reasons.append(f"{' '.join(requirements)}: {error}")
        else:
            return
    raise ChildError("; ".join(reasons))


def _own_packages() -> str:
    """Return the folders of the running interpreter's packages, one a line."""
    folders = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    return "".join(f"{folder}\n" for folder in folders)


def main() -> None:
    """Make all environments and say which there are."""
    for name in ENVIRONMENTS:
        prepared = prepare(name)
        ready = prepared.python is not None
        print(f"{name}: ready" if ready else f"could not install {name}: {prepared.reason}")


if __name__ == "__main__":
    main()
