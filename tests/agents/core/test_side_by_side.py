"""Views side by side: processes of their own give what one process gives."""

import contextlib
import gc
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.core.inspection import side_by_side
from agents.core.inspection.images import ImageViews
from tests.conftest import small_agent
from tests.helpers.imports import printed_without

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


def test_results_come_whole_from_other_processes() -> None:
    """Each work is done in another process, and its arrays and tensors come back equal."""
    works: dict[str, Callable[[], Any]] = {
        "array": lambda: (os.getpid(), np.arange(4)),
        "tensor": lambda: (os.getpid(), torch.arange(4.0)),
        "nothing": lambda: (os.getpid(), None),
    }
    results = dict(side_by_side.compute(works, {}, 2))
    assert results.keys() == works.keys()
    assert os.getpid() not in {process for process, _ in results.values()}
    assert results["array"][1].tolist() == results["tensor"][1].tolist() == [0, 1, 2, 3]
    assert results["nothing"][1] is None


def test_garbage_collection_is_as_before() -> None:
    """What the caller has made is left out of collections while works run, and not after them."""
    before = gc.get_freeze_count()
    works: dict[str, Callable[[], Any]] = {"first": gc.get_freeze_count, "second": lambda: 2}
    with contextlib.closing(side_by_side.compute(works, {}, 1)) as results:
        assert next(results)[1] > before
    assert gc.get_freeze_count() == 0


def test_a_report_needs_no_packages_of_other_agents() -> None:
    """Views are listed without the seconds that importing torchvision or sklearn takes."""
    code = "import agents.core.inspection.report, agents.core.inspection.available"
    printed_without({"torchvision", "sklearn", "scipy.optimize"}, code)


def test_learning_does_not_import_matplotlib() -> None:
    """Only figures need it, which a run without a folder does not draw."""
    small = "agents.make('seq2seq_adder', task='add1x2', batch_size=8, hidden_size=8)"
    printed_without({"matplotlib"}, f"import agents\n{small}.learn(1)")


def test_a_work_finds_what_it_uses() -> None:
    """What the caller has kept of one work is there when one begins that uses it."""
    kept: dict[str, Any] = {}
    works = {"second": lambda: kept["first"] + 1, "first": lambda: 41}
    for name, result in side_by_side.compute(works, {"second": ("first", "absent")}, 4):
        kept |= {name: result}
    assert kept == {"first": 41, "second": 42}


def test_what_a_process_cannot_give_is_computed_by_the_caller() -> None:
    """A process that ends at once, and a result that cannot be sent, lose nothing."""
    caller = os.getpid()

    def dies() -> str:
        if os.getpid() != caller:
            os._exit(3)
        return "here"

    works: dict[str, Callable[[], Any]] = {"dies": dies, "unsendable": lambda: lambda: "here"}
    results = dict(side_by_side.compute(works, {}, 2))
    assert results["dies"] == results["unsendable"]() == "here"


def test_an_exception_is_raised_by_the_caller() -> None:
    """A bug in a work is an error, also when others run beside it."""

    def fails() -> None:
        raise IndexError("a bug")

    with pytest.raises(IndexError, match="a bug"):
        dict(side_by_side.compute({"fails": fails, "other": lambda: 1}, {}, 2))


def test_a_report_does_not_depend_on_the_number_of_processes() -> None:
    """Views that draw random numbers, and one that uses others, show the same side by side."""
    agent = small_agent()
    names = ["dead_units", "ablation", "roles", "patching", "cells", "embedding"]
    alone, beside = (agent.inspect(names, processes=number) for number in (1, 2))
    arrays, others = alone.arrays(), beside.arrays()
    assert arrays.keys() == others.keys()
    assert list(alone.records) == list(beside.records)
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, others[name], rtol=1e-3, atol=1e-4)
        else:
            np.testing.assert_array_equal(array, others[name])
    assert alone.overview == beside.overview is not None
    assert alone.sentences["roles"].startswith("Unit roles: what")


@pytest.mark.parametrize(("names", "num"), [(["fields", "patterns"], 1), (["fields"], 0)])
def test_what_several_views_use_is_computed_once(
    names: list[str], num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patches that are not shown are computed before the processes of the two views that need them.

    Those of a single view are computed in its own process.
    """
    agent, calls, plain = small_agent("cnn_classifier"), list[str](), ImageViews.patches

    def counted(self: ImageViews) -> Any:
        if "patches" not in self.records:
            calls.append("patches")
        return plain(self)

    monkeypatch.setattr(ImageViews, "patches", counted)
    report = agent.inspect(names, processes=2)
    assert list(report.records) == names
    assert calls.count("patches") == num


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is of the C library of Linux")
def test_freed_memory_is_used_again() -> None:
    """Once memory is kept, a large array made again and again has its pages from before."""
    code = (
        "import resource\n"
        "import numpy as np\n"
        "from agents.core.training.devices import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(10):\n"
        "        [np.ones(2**21) for _ in range(8)]\n"  # 16 MB each, which malloc gives back
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "def count():\n"
        "    faults()\n"
        "    return faults()\n"
        "lost = count()\n"
        "keep_freed_memory()\n"
        "print(lost, count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lost, kept = map(int, done.stdout.split())
    if platform.libc_ver()[0] == "glibc":
        assert kept < lost / 10
