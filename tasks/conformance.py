"""Conformance suite of tasks: `check_task(MyTask)` tells whether a class keeps the contract.

from tasks.conformance import check_task, task_checks

check_task(MyTask)  # or of a task with other settings: check_task(MyTask(size=3))


@pytest.mark.parametrize("check", task_checks(MyTask), ids=str)
def test_my_task_conforms(check):
    check()
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np

import tasks
from tasks.core.batch import Batch, num_samples, plain_arrays, take
from tasks.core.conformance import (
    Check,
    checks_of,
    equal,
    global_generators,
    require,
    require_settings,
    run_all,
)
from tasks.core.registry import look_up
from tasks.core.settings import ConfigError, SourcedValue, build, to_values
from tasks.core.task import SPLITS, Task, num_batches

_LARGE, _NUM_MANY, _NUM_FEW = 1024, 3000, 300  # bytes of a sample, and how many are compared


def check_task(task: Task | type[Task], *, except_for: Mapping[str, str] | None = None) -> None:
    """Check that a task keeps the contract.

    Args:
        task: a task, or its class, which is made with its default settings.
        except_for: names of checks that are left out, and why.

    Raises:
        ConformanceError: names each check that does not hold, what was found, what is accepted.
    """
    run_all(task_checks(task, except_for=except_for))


def task_checks(
    task: Task | type[Task], *, except_for: Mapping[str, str] | None = None
) -> list[Check]:
    """Return the checks of a task, to be called one by one; see `check_task`."""
    made = task() if isinstance(task, type) else task
    return checks_of(made, CHECKS, except_for, "task_checks()")


def settings_make_it_again(task: Task) -> None:
    """All fields are settings, which cannot be set, and whose plain values make an equal task."""
    require_settings(type(task))
    values = to_values(task)
    require(json.loads(json.dumps(values)) == values, f"{values} are not plain values")
    made = build(type(task), {k: SourcedValue(v, "check") for k, v in values.items()})
    require(made == task, f"{made} was made from the settings of {task}")
    for name, value in values.items():
        try:
            setattr(task, name, value)
        except attrs.exceptions.FrozenInstanceError:
            continue
        require(False, f"{name} of {type(task).__name__} can be set: the class is not frozen")


def name_makes_it_again(task: Task) -> None:
    """The name can be that of a folder, and makes this task if the registry has it."""
    require(bool(re.fullmatch(r"\w[\w.-]*", task.name)), f"the name is {task.name!r}")
    resolved = look_up(task.name, tasks.TASKS)
    if resolved is None:
        return
    if not resolved.makes(type(task)):
        entry = resolved.entry
        require(False, f"the name {task.name!r} means {entry.module}:{entry.cls} in the registry")
    made = tasks.make(task.name, **tasks.settings_of(task))
    require(made == task, f"{made} was made by the name of {task}")


def batches_are_a_pure_function(task: Task) -> None:
    """The same split, seed and epoch give the same batch, and others another one."""
    for split in SPLITS:
        first = _first_batch(task, split, 0)
        require(equal(first, _first_batch(task, split, 1)), f"two passes over {split} differ")
    for stage in range(task.num_stages):
        pair = [next(task.batches("train", 8, 0, 0, stage=stage)) for _ in range(2)]
        require(equal(*pair), f"two passes in stage {stage} differ")
    first = _first_batch(task, "train", 0)
    for seed, epoch in ((1, 0), (0, 1)):
        other = next(task.batches("train", 8, seed, epoch))
        require(not equal(first, other), f"seed {seed} and epoch {epoch} give the batch of 0 and 0")


def _first_batch(task: Task, split: Any, generators: int) -> Any:
    with global_generators(generators):
        return next(task.batches(split, 8, 0, 0))


def epochs_have_the_stated_samples(task: Task) -> None:
    """A pass from batch k on gives what came after k batches, and has `num_samples_in` samples."""
    total = task.num_samples_in("train")
    size = max(1, min(8192, total * 2 // 3))
    batches = list(task.batches("train", size, 3, 2))
    sizes = [num_samples(batch) for batch in batches]
    require(sum(sizes) == total, f"an epoch has {sum(sizes)} samples, and {total} are stated")
    require(len(sizes) == num_batches(task, size), f"batches of {size} asked for, {sizes} got")
    later = list(task.batches("train", size, 3, 2, start=len(batches) - 1))
    require(equal(batches[-1:], later), "a pass from the last batch on has other batches")


def batches_can_be_divided(task: Task) -> None:
    """A batch is a NamedTuple, with an entry for each sample in each field, or extends `Batch`."""
    for split in SPLITS:
        batch = task.samples(split, 5)
        is_batch = isinstance(batch, Batch) or (
            isinstance(batch, tuple) and type(batch) is not tuple
        )
        require(is_batch, f"a batch is a {type(batch).__name__}")
        num = num_samples(batch)
        require(1 <= num <= 5, f"samples({split!r}, 5) has {num} samples")
        sizes = [num_samples(take(batch, begin, begin + 2)) for begin in range(0, num, 2)]
        require(sum(sizes) == num, f"{num} samples, taken two by two, are {sizes}")
        for name, array in plain_arrays("batch", batch).items():
            require(array.dtype.kind in "biufcU", f"{name} is an array of {array.dtype}")


def splits_are_disjoint(task: Task) -> None:
    """No question is in two splits, whatever the seeds."""
    one = plain_arrays("batch", task.samples("train", 1))
    num = _NUM_FEW if sum(array.nbytes for array in one.values()) > _LARGE else _NUM_MANY
    seen: dict[object, str] = {}
    for split in SPLITS:
        for seed in (0, 1):
            for question in _questions(task, task.samples(split, num, seed)):
                other = seen.setdefault(question, split)
                shown = repr(question) if isinstance(question, str) else "a question"
                require(other == split, f"{shown} is in {other} and in {split}")


def _questions(task: Task, batch: Any) -> Iterator[object]:
    """Yield what is asked: the question as a person reads it, or the bytes of the first field."""
    if type(task).rows is not Task.rows:
        for row in task.rows(task.targets(batch), batch):
            yield row.question
        return
    for index in range(num_samples(batch)):
        arrays = list(plain_arrays("batch", take(batch, index, index + 1)).values())
        yield arrays[0].tobytes()


def right_answers_score_best(task: Task) -> None:
    """Scores are finite, and the monitored one is better for right answers than for wrong ones."""
    batch = task.samples("test", 200)
    name, direction = task.monitor
    require(direction in ("max", "min"), f"monitor is {task.monitor}")
    targets = task.targets(batch)
    shifted = [*targets[1:], *targets[:1]]
    others = np.stack(shifted) if isinstance(targets, np.ndarray) else shifted
    right, wrong = task.score(targets, batch), task.score(others, batch)
    require(name in right, f"monitor is {name!r}, and the scores are {', '.join(right)}")
    for score, value in right.items():
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        require(is_number, f"{score} of right answers is {value!r}")
    is_better = right[name] > wrong[name] if direction == "max" else right[name] < wrong[name]
    shown = f"{right[name]}, and {wrong[name]} of the targets of other samples"
    require(is_better, f"{name} of right answers is {shown}")


def rows_are_readable(task: Task) -> None:
    """Each sample has one row of texts and one decoded answer, and right answers are correct."""
    batch = task.samples("test", 20)
    targets, num = task.targets(batch), num_samples(batch)
    decoded, rows = task.decode(targets), task.rows(targets, batch)
    for name, values in (("targets", targets), ("decode", decoded), ("rows", rows)):
        require(len(values) == num, f"{name} gives {len(values)} for {num} samples")
    for row in rows:
        texts = (row.question, row.answer, row.target, row.short_question)
        require(all(isinstance(text, str) for text in texts), f"{row} has other than texts")
        require(bool(row.correct), f"{row} is of the right answer")
    require(all(isinstance(text, str) for text in decoded), f"decode gives {decoded[0]!r}")


def input_is_checked(task: Task) -> None:
    """`encode` refuses what is no input, such as a bare object, by a ConfigError."""
    try:
        task.encode([object()])
    except ConfigError:
        return
    require(False, "a bare object was encoded")


def displayed_task_is_like_it(task: Task) -> None:
    """`for_display` gives a task with the same sizes and scores, and samples that are no larger."""
    shown = task.for_display()
    require(shown.spec == task.spec, f"its spec is {shown.spec}, not {task.spec}")
    require(shown.monitor == task.monitor, f"its monitor is {shown.monitor}, not {task.monitor}")
    sizes = [
        sum(array.nbytes for array in plain_arrays("batch", each.samples("test", 2)).values())
        for each in (shown, task)
    ]
    require(sizes[0] <= sizes[1], f"two samples have {sizes[0]} bytes, and {sizes[1]} of the task")


def probe_targets_are_of_samples(task: Task) -> None:
    """Each probe target is an array (batch, time) or (batch,) of integers or floats."""
    batch = task.for_display().samples("test", 3)
    found, num = task.for_display().probe_targets(batch), num_samples(batch)
    for name, values in [*found.encoder.items(), *found.decoder.items()]:
        array = np.asarray(values)
        is_right = array.ndim in (1, 2) and len(array) == num and array.dtype.kind in "biuf"
        require(is_right, f"{name!r} is {array.dtype}, of shape {array.shape}, for {num} samples")


CHECKS: tuple[Callable[[Task], None], ...] = (
    settings_make_it_again,
    name_makes_it_again,
    batches_are_a_pure_function,
    epochs_have_the_stated_samples,
    batches_can_be_divided,
    splits_are_disjoint,
    right_answers_score_best,
    rows_are_readable,
    input_is_checked,
    displayed_task_is_like_it,
    probe_targets_are_of_samples,
)
