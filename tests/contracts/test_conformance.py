"""The conformance suites catch what they are for: for each check a class that breaks it."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from my_agents.products import Products, Vectors
from my_agents.regression import Regression, RegressionConfig
from torch import Tensor, nn

from agents import conformance as agent_conformance
from agents.conformance import agent_checks, check_agent
from agents.seq2seq_adder import Seq2SeqAdder
from tasks import conformance as task_conformance
from tasks.conformance import check_task, task_checks
from tasks.core.conformance import ConformanceError
from tasks.core.settings import ConfigError, setting
from tasks.core.task import BatchRequest, ProbeTargets, Task

mse = nn.functional.mse_loss
COUNT = itertools.count()


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


class Broken(NamedTuple):
    """What is broken, the check that must see it, and what it says."""

    subject: Any
    check: str
    found: str


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


class FieldConfig(RegressionConfig):
    """A setting that attrs does not see."""

    colour: str = setting("red", "colour of nothing")


class NoSettings(Regression):
    """A config that is not decorated."""

    Config = FieldConfig


class AsAnother(Regression):
    """A name that means another agent."""

    name = "char_lm"


class LossOfEach(Regression):
    """A loss that is no scalar."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return the loss of each sample."""
        return mse(self.network(batch.x), batch.y, reduction="none")


class Detached(Regression):
    """A loss from which nothing can be learned."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return a loss without its graph."""
        return super().loss(batch).detach()


class NotFinite(Regression):
    """A loss that is not a number."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return a part that is NaN."""
        return {"good": super().loss(batch), "bad": super().loss(batch) * torch.nan}


class Bypass(Regression):
    """A loss that a data-parallel wrapper would not see."""

    def loss(self, batch: Vectors) -> Tensor:
        """Call the bare model."""
        return mse(self.model(batch.x), batch.y)


class Summed(Regression):
    """A loss that grows with the batch."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return the sum."""
        return mse(self.network(batch.x), batch.y, reduction="sum")


class Dependent(Regression):
    """Samples that are said to be independent, and are not."""

    samples_are_independent = True

    def loss(self, batch: Vectors) -> Tensor:
        """Compare means."""
        return (self.network(batch.x).mean() - batch.y.mean()) ** 2


class Unused(Regression):
    """A layer that learns nothing."""

    @staticmethod
    def build_model(config: Any, spec: object) -> nn.Module:
        """Return a perceptron with a layer that nothing calls."""
        model = Regression.build_model(config, spec)
        model[1].unused = nn.Linear(1, 1)
        return model


class Random(Regression):
    """A loss that no seed makes again."""

    def loss(self, batch: Vectors) -> Tensor:
        """Multiply by how often any agent asked."""
        return super().loss(batch) * (1 + next(COUNT) % 7)


class FixedSeed(Regression):
    """Weights that are the same for each seed, and so is what is learned at once."""

    @staticmethod
    def build_model(config: Any, spec: object) -> nn.Module:
        """Draw the weights from a seed of its own."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Regression.build_model(config, spec)

    def loss(self, batch: Vectors) -> Tensor:
        """Learn the same of each batch."""
        return (self.network(torch.ones(len(batch.x), 4)) ** 2).mean()


class DrawsFromNumpy(Regression):
    """A loss that disturbs others."""

    def loss(self, batch: Vectors) -> Tensor:
        """Draw from numpy's global generator."""
        np.random.rand()  # noqa: NPY002
        return super().loss(batch)


class Counting(Regression):
    """A part of its state that no checkpoint has."""

    steps_seen = 0

    def loss(self, batch: Vectors) -> Tensor:
        """Multiply by how many batches were seen."""
        self.steps_seen += 1
        return super().loss(batch) * self.steps_seen

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Add how many batches were seen."""
        return self.model(batch.x) + self.steps_seen


class OnePrediction(Regression):
    """One answer for all samples."""

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Answer the first sample alone."""
        return self.model(batch.x)[:1]


class Relative(Regression):
    """Answers that depend on who else is asked."""

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Subtract the mean."""
        return self.model(batch.x) - self.model(batch.x).mean()


class Draws(Regression):
    """Answers that take random numbers from the others."""

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Draw, for nothing."""
        torch.rand(1)
        return self.model(batch.x)


class LearnsFromLooks(Regression):
    """A run that remembers when it was looked at."""

    looks = 0

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Count the looks."""
        self.looks += 1
        return self.model(batch.x)

    def loss(self, batch: Vectors) -> Tensor:
        """Multiply by the looks."""
        return super().loss(batch) * (1 + self.looks)


class NoFigure(Regression):
    """A view that nobody can draw."""

    def own_views(self) -> dict[str, Any]:
        """Return a view of nothing."""
        return {"nothing": object}


class FailingView(Regression):
    """A view with a mistake."""

    def own_views(self) -> dict[str, Any]:
        """Return a view that fails."""
        return {"nothing": lambda: 1 / 0}


AGENTS = [
    Broken(NoSettings, "config_is_of_settings", "FieldConfig is not decorated by @attrs.frozen"),
    Broken(AsAnother, "name_is_its_own", "the name 'char_lm' means agents.char_lm:CharLM"),
    Broken(LossOfEach, "loss_is_differentiable", r"the loss has the shape \(16, 1\)"),
    Broken(Detached, "loss_is_differentiable", "does not depend on the parameters"),
    Broken(NotFinite, "loss_is_differentiable", "loss 'bad' is nan"),
    Broken(Bypass, "loss_calls_the_network", "the wrapper was not called"),
    Broken(Summed, "loss_is_a_mean", "of nine samples at once, and"),
    Broken(Dependent, "independent_samples_are_independent", "of the halves"),
    Broken(Unused, "learning_moves_every_parameter", r"1\.unused\.weight is as it was initialised"),
    Broken(Random, "equal_seeds_give_equal_bits", "two runs differ in model/0"),
    Broken(FixedSeed, "equal_seeds_give_equal_bits", "another seed gives the same weights"),
    Broken(DrawsFromNumpy, "global_generators_are_left_alone", "numpy's generator was drawn from"),
    Broken(Counting, "resuming_is_exact", "continued from a file, it differs in model/0"),
    Broken(Counting, "loading_gives_the_same_agent", "and the saved one {'error'"),
    Broken(OnePrediction, "predictions_are_of_samples", "2 predictions for 9 samples"),
    Broken(Relative, "predictions_are_of_samples", "a sample by itself has another prediction"),
    Broken(Draws, "evaluating_changes_nothing", r"evaluate\(\) changed torch's generator"),
    Broken(LearnsFromLooks, "looking_does_not_change_the_run", "it ends with other weights"),
    Broken(NoFigure, "views_run_and_change_nothing", "nothing is a object, without a figure"),
    Broken(FailingView, "views_run_and_change_nothing", "ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize("broken", TASKS, ids=lambda each: f"{each.subject.__name__}-{each.check}")
def test_a_broken_task_is_caught(broken: Broken) -> None:
    """The check that is for it names itself, what it found, and what must hold."""
    (check,) = [each for each in task_checks(broken.subject) if each.name == broken.check]
    with pytest.raises(ConformanceError, match=f"{broken.check}: .*{broken.found}.*; accepted: "):
        check()


@pytest.mark.parametrize("broken", AGENTS, ids=lambda each: f"{each.subject.__name__}-{each.check}")
def test_a_broken_agent_is_caught(broken: Broken) -> None:
    """The check that is for it names itself, what it found, and what must hold."""
    checks = agent_checks(broken.subject, Products())
    (check,) = [each for each in checks if each.name == broken.check]
    with pytest.raises(ConformanceError, match=f"{broken.check}: .*{broken.found}.*; accepted: "):
        check()


@pytest.mark.parametrize(
    ("suite", "broken"), [(task_conformance, TASKS), (agent_conformance, AGENTS)]
)
def test_every_check_can_fail(suite: Any, broken: list[Broken]) -> None:
    """For each check of a suite there is a class here that breaks it."""
    assert {each.check for each in broken} == {check.__name__ for check in suite.CHECKS}


def test_all_that_is_broken_is_said_at_once() -> None:
    """check_task names each check that does not hold, and leaves out those that it is told to."""
    with pytest.raises(ConformanceError) as raised:
        check_task(NoSuchScore())
    assert [failure.check for failure in raised.value.failures] == ["right_answers_score_best"]

    class Two(OneText, BestIsWorst):
        """Two mistakes."""

    with pytest.raises(ConformanceError) as raised:
        check_task(Two)
    found = [failure.check for failure in raised.value.failures]
    assert found == ["right_answers_score_best", "rows_are_readable"]
    assert len(str(raised.value).splitlines()) == 2
    check_task(Two, except_for=dict.fromkeys(found, "for this test"))
    with pytest.raises(ConfigError, match=r"unknown check 'rows_are'.*did you mean rows_are_read"):
        check_task(Two, except_for={"rows_are": "for this test"})


def test_an_agent_is_checked_on_the_first_task_that_fits() -> None:
    """A task is found by the sizes an agent learns from; one that does not say is asked for it."""
    quick = {"hidden_size": 4, "embedding_size": 4, "batch_size": 8}
    checks = agent_checks(Seq2SeqAdder, **quick)
    assert [str(check) for check in checks] == [f.__name__ for f in agent_conformance.CHECKS]
    checks[2]()
    with pytest.raises(ConfigError, match=r"task: no registered task .*check_agent\(Regression, "):
        check_agent(Regression)


def test_a_check_says_what_must_hold() -> None:
    """Each check has one sentence that says what must hold."""
    for check in [*task_checks(Products), *agent_checks(Regression, Products())]:
        assert check.requirement.endswith(".")
        assert len(check.requirement.split()) > 6
