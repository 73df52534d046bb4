"""Calibration of an agent: temperature scaling, fitted on the validation split."""

from collections.abc import Mapping

import attrs

from agents.core.agent import Agent
from agents.core.config import ConfigError
from tasks.core.settings import fields
from visualization.calibration.reliability import ReliabilityDiagram, reliability_diagrams
from visualization.core.preserve import preserve_state

NUM_SAMPLES = 1000  # of each split, at most: fewer where an observation has fewer


def calibrate(agent: Agent) -> Mapping[str, ReliabilityDiagram]:
    """Calibrate how sure an agent is, and return reliability diagrams of test samples.

    Its setting `temperature` becomes the one that fits best on validation samples; `agent.save`
    keeps it. What the agent answers stays the same.

    Raises:
        ConfigError: (a ValueError) it has no such setting, or does not say how sure it is.
        NothingToShow: (a ValueError) it says nothing in answer to any validation sample.
    """
    accepted = "an agent that says how sure it is, such as ctc_reader"
    if "temperature" not in fields(type(agent.config)):
        raise ConfigError("calibrate()", "", f"{agent.name} has no temperature", accepted)
    with preserve_state(agent.model):
        fitted, shown = (
            agent.observe(agent.task.samples(split, NUM_SAMPLES))
            for split in ("validation", "test")
        )
        if not fitted.confidences:
            problem = f"{agent.name} does not say how sure it is of its answers"
            raise ConfigError("calibrate()", "", problem, accepted)
        diagrams = reliability_diagrams(fitted.confidences, shown.confidences, shown.temperature)
    temperature = next(iter(diagrams.values())).temperatures[1]
    agent.config = attrs.evolve(agent.config, temperature=temperature)
    return diagrams
