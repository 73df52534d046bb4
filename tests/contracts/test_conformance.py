"""The conformance suites catch what they are for: for each check a class that breaks it."""

from typing import Any

import pytest
from my_agents.products import Products
from my_agents.regression import Regression

from agents import conformance as agent_conformance
from agents.conformance import agent_checks, check_agent
from agents.seq2seq_adder import Seq2SeqAdder
from tasks import conformance as task_conformance
from tasks.conformance import check_task, task_checks
from tasks.core.conformance import ConformanceError
from tasks.core.settings import ConfigError
from tests.helpers.broken_agents import AGENTS
from tests.helpers.broken_tasks import TASKS, BestIsWorst, Broken, NoSuchScore, OneText


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
