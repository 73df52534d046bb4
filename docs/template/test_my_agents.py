"""The agent and the task keep the contracts, and the agent learns the task."""

import pytest
from my_agents.products import Products
from my_agents.regression import Regression

from agents.conformance import agent_checks
from tasks.conformance import Check, task_checks


@pytest.mark.parametrize("check", task_checks(Products), ids=str)
def test_the_task_conforms(check: Check) -> None:
    """The task passes each check of the suite."""
    check()


@pytest.mark.parametrize("check", agent_checks(Regression, Products()), ids=str)
def test_the_agent_conforms(check: Check) -> None:
    """The agent passes each check of the suite."""
    check()


def test_it_learns() -> None:
    """After 800 steps the error is far below that of answering with the mean, 0.55."""
    agent = Regression(Products(), Regression.Config(steps=800), "cpu").learn()
    assert agent.evaluate()["error"] < 0.15
