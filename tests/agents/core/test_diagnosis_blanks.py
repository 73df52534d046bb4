"""The doctor on a real reader in the plateau of blanks."""

import pytest

import agents
import tasks
from agents.core.analysis.diagnosis import settings_of
from agents.core.training.monitoring import NUM_TRAIN_EVAL
from visualization.diagnosis import RunEvidence, diagnose


def test_a_reader_that_writes_only_blanks_is_at_a_stage_of_learning() -> None:
    """After some dozen steps a true reader writes nothing: the doctor says that this passes."""
    agent = agents.make(
        "ctc_reader", task=tasks.make("digit_strings", height=16, most_digits=3), device="cpu",
        steps=60, batch_size=16, eval_every=30, eval_samples=32, log_every=5, precision="fp32",
        threads=1,
    ).learn()  # fmt: skip
    evidence = RunEvidence(
        title="", records=agent.history.records, settings=settings_of(agent),
        monitor=agent.task.monitor,
    )  # fmt: skip
    finding = diagnose(evidence)["only blanks"]
    assert evidence.last("eval/empty") == 1.0
    assert finding.verdict == "fine"
    assert "a stage of learning" in finding.answer.measurement
    batch = next(agent.task.batches("train", NUM_TRAIN_EVAL, agent.config.seed, 0))
    assert evidence.chance == pytest.approx(agent.constant_loss(batch))
