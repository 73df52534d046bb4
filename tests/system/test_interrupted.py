"""Learning that was cut off, by a second SIGINT or an error, and goes on with the same object."""

import itertools
from pathlib import Path

import pytest

import agents
from agents.core.agent import Agent
from agents.core.runs.run_folder import RunFolder
from agents.core.training.optimizer import Optimizer
from tests.conftest import exact, same, small_agent, weights


def torn(agent: Agent, owner: type, method: str, nth: int, folder: Path | None) -> None:
    """Let an agent learn until the nth call of a method, which a second SIGINT ends at once."""
    count, plain = itertools.count(1), getattr(owner, method)

    def tearing(*arguments: object, **options: object) -> object:
        if next(count) == nth:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, tearing)
        with pytest.raises(KeyboardInterrupt):
            agent.learn(run_dir=folder, progress=False)


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("in_folder", [True, False])
def test_an_evaluation_that_was_cut_off_is_made_up_for(
    nth: int, in_folder: bool, tmp_path: Path
) -> None:
    """The same object learns on to the bits and records of a run that was never cut off."""
    whole, agent = small_agent().learn(), small_agent()
    folder = tmp_path / "run" if in_folder else None
    torn(agent, type(agent.task), "rows", nth, folder)
    agent.learn(run_dir=folder, progress=False)
    assert same(weights(agent), weights(whole))
    assert exact(agent.history) == exact(whole.history)
    assert agent.state.best == whole.state.best


def test_an_evaluation_is_made_up_for_by_who_loads_the_agent(tmp_path: Path) -> None:
    """An agent saved after its evaluation was cut off evaluates when it learns on."""
    whole, agent = small_agent().learn(), small_agent()
    torn(agent, type(agent.task), "rows", 2, None)
    loaded = agents.load(agent.save(tmp_path / "a.safetensors"), "cpu").learn()
    assert exact(loaded.history) == exact(whole.history)
    assert same(weights(loaded), weights(whole))


@pytest.mark.parametrize(
    ("owner", "method", "nth"),
    [(Optimizer, "step", 5), (RunFolder, "save", 2), (RunFolder, "save_best", 2)],
)
def test_what_was_cut_off_goes_back_to_the_folder(
    owner: type, method: str, nth: int, tmp_path: Path
) -> None:
    """Inside a step or a save, the same object goes on from the newest checkpoint, as a new one."""
    whole, agent = small_agent(), small_agent()
    whole.learn(run_dir=tmp_path / "whole", progress=False)
    torn(agent, owner, method, nth, tmp_path / "torn")
    agent.learn(run_dir=tmp_path / "torn", progress=False)
    for name in ("best.safetensors", "checkpoints/step-000000012.safetensors"):
        a, b = (agents.load(tmp_path / folder / name, "cpu") for folder in ("whole", "torn"))
        assert same(weights(a), weights(b))
        assert exact(a.history) == exact(b.history)
        assert a.state.best == b.state.best


def test_half_a_step_is_not_learned_on_from(tmp_path: Path) -> None:
    """Cut off inside a step without a folder, an agent answers, but it learns no further."""
    agent = small_agent()
    torn(agent, Optimizer, "step", 5, None)
    assert agent.predict(["123+456+7"]) == [agent.predict("123+456+7")]
    loaded = agents.load(agent.save(tmp_path / "a.safetensors"), "cpu")
    for broken in (agent, loaded):
        with pytest.raises(
            ValueError, match=r"seq2seq_adder: was interrupted inside step 5, .*accepted"
        ):
            broken.learn()
        assert broken.state.cursor.step == 4
