"""Tasks that break the contract, each in one way, and the check that must see it."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
from my_agents.products import Products, Vectors

from tasks.core.settings import setting
from tasks.core.task import BatchRequest, ProbeTargets, Task

COUNT = itertools.count()


class Broken(NamedTuple):
    """What is broken, the check that must see it, and what it says."""

    subject: Any
    check: str
    found: str


class Undecorated(Products):
    """A setting that attrs does not see."""

    colour: str = setting("red", "colour of nothing")


@attrs.frozen(kw_only=True)
class WithField(Products):
    """A field that no file would have."""

    colour: str = "red"


@attrs.frozen(kw_only=True)
class WithList(Products):
    """A setting of which a file cannot tell what it was."""

    sizes: Any = attrs.field(default=(1, 2), metadata={"help": "sizes", "renamed_from": ()})


class NamedAsAnother(Products):
    """A name that means another task."""

    name = "parity"


class NamedAsPath(Products):
    """A name that leads out of its folder."""

    name = "../products"


class Unseeded(Products):
    """Other numbers in each pass."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Ignore the seed."""
        return super().iter_batches(request._replace(seed=next(COUNT)))


class OneSeed(Products):
    """The same numbers for each seed."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Ignore the seed."""
        return super().iter_batches(request._replace(seed=0))


class GlobalGenerator(Products):
    """Numbers that depend on who drew before."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Draw from numpy's global generator."""
        return super().iter_batches(request._replace(seed=np.random.randint(99)))  # noqa: NPY002


class FromTheStart(Products):
    """A pass that cannot be entered in the middle."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Ignore where to start."""
        return super().iter_batches(request._replace(start=0))


class StatesMore(Products):
    """A pass that has fewer samples than it states."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Leave the last samples out."""
        for batch in super().iter_batches(request):
            yield Vectors(batch.x[:-1], batch.y[:-1])


class Plain(Products):
    """Batches that nobody can divide."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Any]:
        """Yield mappings."""
        return ({"x": x, "y": y} for x, y in super().iter_batches(request))


class Uneven(Products):
    """Fields of unequal length."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Leave out a target."""
        return (Vectors(x, y[:-1]) for x, y in super().iter_batches(request))


class OneSplit(Products):
    """The same samples in each split."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Draw without the split."""
        x = np.random.default_rng([request.seed, request.epoch]).uniform(-1, 1, (4096, 4))
        for span in request.slices(self.num_samples_in(request.split)):
            yield Vectors(x[span].astype(np.float32), x[span, :1])


class BestIsWorst(Products):
    """A monitor that takes the worst for the best."""

    monitor = ("error", "max")


class NoSuchScore(Products):
    """A monitor that is no score."""

    monitor = ("accuracy", "max")


class OneText(Products):
    """One text for all answers."""

    def decode(self, answers: Any) -> list[str]:
        """Return them all at once."""
        return [str(answers)]


class AcceptsAll(Products):
    """A task that asks nothing of its input."""

    def encode(self, x: Sequence[Any]) -> Vectors:
        """Return zeros, whatever it is."""
        return Vectors(np.zeros((len(x), 4), np.float32), np.zeros((len(x), 1), np.float32))


class DisplaysAnother(Products):
    """A task that is looked at as another."""

    def for_display(self) -> Task:
        """Return a task with another monitor."""
        return BestIsWorst()


class WrongProbe(Products):
    """A quantity of no sample."""

    def probe_targets(self, batch: Vectors) -> ProbeTargets:
        """Return one number for all."""
        return ProbeTargets({"sum": np.zeros(1)}, {})


TASKS = [
    Broken(Undecorated, "settings_make_it_again", "not decorated by @attrs.frozen: colour"),
    Broken(WithField, "settings_make_it_again", r"colour of WithField: a field that is no setting"),
    Broken(WithList, "settings_make_it_again", "are not plain values"),
    Broken(NamedAsAnother, "name_makes_it_again", "'parity' means tasks.parity:Parity"),
    Broken(NamedAsPath, "name_makes_it_again", r"the name is '\.\./products'"),
    Broken(Unseeded, "batches_are_a_pure_function", "two passes over train differ"),
    Broken(OneSeed, "batches_are_a_pure_function", "seed 1 and epoch 0 give the batch of 0 and 0"),
    Broken(GlobalGenerator, "batches_are_a_pure_function", "global generator of Python or numpy"),
    Broken(FromTheStart, "epochs_have_the_stated_samples", "from the last batch on has other"),
    Broken(StatesMore, "epochs_have_the_stated_samples", "has 4094 samples, and 4096 are stated"),
    Broken(Plain, "batches_can_be_divided", "a batch is a dict"),
    Broken(Uneven, "batches_can_be_divided", "fields differ in length: x 5, y 4"),
    Broken(OneSplit, "splits_are_disjoint", "a question is in train and in validation"),
    Broken(BestIsWorst, "right_answers_score_best", "error of right answers is 0.0, and 0"),
    Broken(NoSuchScore, "right_answers_score_best", "monitor is 'accuracy', and the scores are"),
    Broken(OneText, "rows_are_readable", "decode gives 1 for 20 samples"),
    Broken(AcceptsAll, "input_is_checked", "a bare object was encoded"),
    Broken(DisplaysAnother, "displayed_task_is_like_it", r"its monitor is \('error', 'max'\)"),
    Broken(WrongProbe, "probe_targets_are_of_samples", "'sum' is float64, of shape"),
]
