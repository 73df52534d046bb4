"""Runs in a folder: going on, falling back, locks, signals, divergence, early stopping."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import agents
from agents.core.agent import Agent
from agents.core.runs.checkpoint import CheckpointError
from agents.core.runs.run_folder import FolderInUseError, RunFolder
from agents.core.training.step_record import DivergedError
from agents.core.training.trainer import Trainer
from main import main
from tasks.core.settings import ConfigError
from tests.conftest import SMALL, exact, same, small_agent, weights

COMMAND = ["--agent", "seq2seq_adder", "--task", "add3x3", "--device", "cpu"]
COMMAND += [f"--set={name}={value}" for name, value in SMALL.items()]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, signum: int) -> None:
    """Send this process a signal in the middle of a step."""
    after_step = Trainer._after_step

    def noisy(self: Trainer, record: object, request: object) -> None:
        if record.step == step:
            signal.raise_signal(signum)
        after_step(self, record, request)

    monkeypatch.setattr(Trainer, "_after_step", noisy)


def test_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again changes nothing and says that the run is done."""
    folder = str(tmp_path / "run")
    assert main([*COMMAND, "--run-dir", folder]) == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert main([*COMMAND, "--run-dir", folder]) == 0
    assert "this run is done: 12 steps taken" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_folder_alone_is_enough_to_go_on(tmp_path: Path) -> None:
    """`--run-dir` alone goes on with the run's own settings."""
    whole = small_agent(task="add2x2", schedule="constant").learn()
    small_agent(task="add2x2", schedule="constant").learn(6, run_dir=tmp_path, progress=False)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("steps: 6", "steps: 12"))
    assert main(["--run-dir", str(tmp_path), "--device", "cpu"]) == 0
    resumed = agents.load(tmp_path / "checkpoints" / "step-000000012.safetensors", "cpu")
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_goes_on(
    signum: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal at step 5 saves step 5 and exits with its code; the rest gives the same bits."""
    whole = small_agent().learn()
    command = [*COMMAND, "--run-dir", str(tmp_path)]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, signum)
        try:
            returned = main(command)
        except SystemExit as stop:
            returned = stop.code
    assert returned == code
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "interrupted"
    assert (tmp_path / "checkpoints" / "step-000000005.safetensors").exists()
    assert main(command) == 0
    resumed = agents.load(tmp_path / "checkpoints" / "step-000000012.safetensors", "cpu")
    assert same(weights(whole), weights(resumed))
    assert exact(whole.history) == exact(resumed.history)


def test_a_second_interrupt_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two SIGINTs in one step do not wait for the step to be saved."""

    def twice(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_after_step", twice)
    assert main([*COMMAND, "--run-dir", str(tmp_path)]) == 130
    assert not (tmp_path / "checkpoints").exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the newest checkpoint cut off, the run goes on from the one before, to the same bits."""
    whole = small_agent(schedule="constant").learn()
    small_agent(schedule="constant").learn(9, run_dir=tmp_path, progress=False)
    newest = tmp_path / "checkpoints" / "step-000000009.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()
    resumed = small_agent(schedule="constant").learn(run_dir=tmp_path, progress=True)
    said = capsys.readouterr().err
    assert f"{newest}: is damaged" in said
    assert newest.with_name(f"{newest.name}.damaged").exists()
    assert "continuing from step 6" in said
    assert same(weights(whole), weights(resumed))


def test_a_run_without_a_whole_checkpoint_is_not_started_anew(tmp_path: Path) -> None:
    """With every checkpoint damaged the error is 65, and nothing is overwritten."""
    small_agent(steps=6).learn(run_dir=tmp_path, progress=False)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="--resume never"):
        small_agent().learn(run_dir=tmp_path, progress=False)
    assert main([*COMMAND, "--run-dir", str(tmp_path)]) == 65


def test_the_newest_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    """File times do not matter: the highest step wins."""
    small_agent().learn(run_dir=tmp_path, progress=False)
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "step-000000006.safetensors").touch()
    found = RunFolder(tmp_path).latest_valid_checkpoint(print)
    assert found.values["cursor"]["step"] == 12


def test_resume_never_puts_the_old_run_aside(tmp_path: Path) -> None:
    """`never` starts anew, and the earlier run is still there under another name."""
    folder = tmp_path / "run"
    small_agent().learn(run_dir=folder, progress=False)
    old = (folder / "best.safetensors").read_bytes()
    small_agent(seed=1).learn(run_dir=folder, progress=False, resume="never")
    assert (tmp_path / "run.old-1" / "best.safetensors").read_bytes() == old


def test_a_damaged_newest_does_not_push_out_the_good(tmp_path: Path) -> None:
    """With keep_checkpoints=1 and a damaged newest checkpoint, what is saved next is kept."""
    small_agent(keep_checkpoints=2).learn(9, run_dir=tmp_path, progress=False)
    newest = tmp_path / "checkpoints" / "step-000000009.safetensors"
    newest.write_bytes(b"rubbish")
    with pytest.warns(RuntimeWarning, match="is cut off or damaged"):
        small_agent(keep_checkpoints=1).learn(8, run_dir=tmp_path, progress=False)
    assert RunFolder(tmp_path).latest_valid_checkpoint(print).values["cursor"]["step"] == 8


def test_resume_from_a_file_goes_on_there(tmp_path: Path) -> None:
    """A path given to resume is where the run starts."""
    half = small_agent(schedule="constant").learn(6)
    path = half.save(tmp_path / "half.safetensors")
    whole = small_agent(schedule="constant").learn()
    folder = tmp_path / "run"
    small_agent(seed=9).learn(run_dir=folder, progress=False)
    rest = small_agent(schedule="constant").learn(run_dir=folder, resume=str(path), progress=False)
    assert same(weights(whole), weights(rest))
    assert (tmp_path / "run.old-1" / "best.safetensors").exists()


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    """A run folder that holds another run's settings is named with both values."""
    small_agent().learn(run_dir=tmp_path, progress=False)
    with pytest.raises(ConfigError, match="batch_size: the run in this folder has 16, this one 8"):
        small_agent(batch_size=8).learn(run_dir=tmp_path, progress=False)


def test_a_folder_in_use_names_its_process(tmp_path: Path) -> None:
    """A second run in a living run's folder is refused with pid and host; a dead one's is taken."""
    hold = (
        "import sys; from pathlib import Path; from agents.core.runs.run_folder import RunFolder\n"
        "with RunFolder.locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(FolderInUseError, match=f"process {holder.pid} on "):
        small_agent().learn(run_dir=tmp_path, progress=False)
    for resume in ("auto", "never"):
        assert main([*COMMAND, "--run-dir", str(tmp_path), "--resume", resume]) == 75
    holder.kill()
    holder.communicate()
    assert small_agent().learn(run_dir=tmp_path, progress=False).state.cursor.step == 12


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_stops_before_the_best_is_touched(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN at step 6 names step, rate and parameter; best and checkpoints are those of before."""
    loss = type(small_agent()).loss

    def poisoned(self: Agent, batch: object) -> torch.Tensor:
        value = loss(self, batch)
        if self.state.cursor.step == 5:
            if where == "loss":
                return value * float("nan")
            self.model.readout.bias.register_hook(lambda g: g * float("inf"))
        return value

    monkeypatch.setattr(type(small_agent()), "loss", poisoned)
    with pytest.raises(DivergedError) as caught:
        small_agent().learn(run_dir=tmp_path, progress=False)
    message = str(caught.value)
    assert "step 6" in message
    assert "learning rate 0.0" in message
    first = "encoder.weight_ih_l0" if where == "loss" else "readout.bias"
    assert f"first bad parameter is {first}" in message
    best = agents.load(tmp_path / "best.safetensors", "cpu")
    assert best.state.cursor.step == 4
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "diverged"
    assert DivergedError.exit_code == 76


def test_patience_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    """Without a better score for `patience` evaluations the run is done, and stays done."""
    settings = {"patience": 2, "steps": 100, "eval_every": 2, "learning_rate": 1e-9,
                "muon_learning_rate": 1e-9}  # fmt: skip
    agent = small_agent(**settings).learn(run_dir=tmp_path, progress=False)
    assert agent.state.cursor.step == 6
    assert agent.state.best.step == 2
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["reason"]) == ("done", "early: no better score")
    again = small_agent(**settings).learn(run_dir=tmp_path, progress=False)
    assert again.state.cursor.step == 6


def test_the_best_is_never_replaced_by_a_worse_one_after_resuming(tmp_path: Path) -> None:
    """The best score is part of the checkpoint."""
    agent = small_agent().learn(6, run_dir=tmp_path, progress=False)
    agent.state.best.score = 2.0  # better than any share can be
    agent.save(tmp_path / "checkpoints" / "step-000000006.safetensors")
    before = (tmp_path / "best.safetensors").read_bytes()
    small_agent().learn(12, run_dir=tmp_path, progress=False)
    assert (tmp_path / "best.safetensors").read_bytes() == before


def test_tensorboard_draws_one_clean_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash and a resume every step stands once in the events, with figures and hparams."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def crash(self: RunFolder, step: int, *rest: object) -> None:
        if step == 9:
            raise MemoryError
        save(self, step, *rest)

    save = RunFolder.save
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", crash)
        with pytest.raises(MemoryError):
            small_agent().learn(run_dir=tmp_path, progress=False)
    agent = small_agent().learn(run_dir=tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/lr", "train/grad_norm", "eval/exact_match", "eval/token_accuracy",
            "time/samples_per_s"} <= set(tags["scalars"])  # fmt: skip
    for tag in ("train/loss", "eval/exact_match"):
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == agent.history.series(tag)[0]
    assert tags["images"] == ["inspect/answers"]
    assert {"params/readout.weight", "grads/readout.weight"} <= set(tags["histograms"])
    assert any("hparams" in plugin for plugin in events.summary_metadata)


def test_the_history_of_a_killed_run_has_no_double_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies before its first checkpoint leaves no second curve in TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            small_agent(save_every=8).learn(run_dir=tmp_path, progress=False)
    agent = small_agent(save_every=8).learn(run_dir=tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [event.step for event in events] == agent.history.series("train/loss")[0]


def test_a_clock_that_was_set_back_does_not_split_the_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard reads event files in the order of their names: the later one is behind."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    small_agent().learn(6, run_dir=tmp_path, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("agents.core.runs.sinks.time.time_ns", lambda: 10**17)  # in 1973
        agent = small_agent().learn(12, run_dir=tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [event.step for event in events] == agent.history.series("train/loss")[0]


def test_scores_that_are_no_numbers_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A NaN in an evaluation ends the run with 76 before best, history or metrics have it."""
    mean_loss = Agent.mean_loss
    monkeypatch.setattr(Agent, "mean_loss", lambda self, batch: mean_loss(self, batch) if
                        self.state.cursor.step < 8 else float("nan"))  # fmt: skip
    assert main([*COMMAND, "--run-dir", str(tmp_path)]) == 76
    assert "diverged at step 8" in capsys.readouterr().err
    assert agents.load(tmp_path / "best.safetensors", "cpu").state.cursor.step == 4
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_among_equal_scores_the_lower_loss_is_better(tmp_path: Path) -> None:
    """While no answer is right yet, `best` follows the loss."""
    agent = small_agent().learn(run_dir=tmp_path, progress=False)
    assert set(agent.history.series("eval/exact_match")[1]) == {0.0}
    steps, losses = agent.history.series("eval/loss")
    assert (
        agents.load(tmp_path / "best.safetensors", "cpu").state.cursor.step
        == min(zip(losses, steps, strict=True))[1]
    )


def test_a_damaged_best_is_replaced_by_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predict says that best is damaged, and answers with the newest checkpoint."""
    small_agent().learn(run_dir=tmp_path, progress=False)
    (tmp_path / "best.safetensors").write_bytes(b"rubbish")
    assert main(["--mode", "predict", "--run-dir", str(tmp_path), "--input", "1+2+3"]) == 0
    captured = capsys.readouterr()
    assert "best.safetensors: is cut off or damaged" in captured.err
    newest = agents.load(tmp_path / "checkpoints" / "step-000000012.safetensors", "cpu")
    assert captured.out.strip() == newest.predict("1+2+3")


def test_a_run_killed_at_its_very_end_is_ended(tmp_path: Path) -> None:
    """With the last step saved but no `done`, the same call completes events and status."""
    small_agent().learn(run_dir=tmp_path, progress=False)
    (tmp_path / "status.json").write_text('{"state": "running"}')
    (tmp_path / "metrics.jsonl").write_text("")
    agent = small_agent().learn(run_dir=tmp_path, progress=False)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "done"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(agent.history)


def test_resume_from_a_finished_file_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--resume PATH` of a run without steps left puts that agent into the new folder."""
    path = small_agent().learn().save(tmp_path / "a.safetensors")
    command = [*COMMAND, "--run-dir", str(tmp_path / "run"), "--resume", str(path)]
    assert main(command) == 0
    assert "test: exact_match" in capsys.readouterr().out


def test_resume_from_another_tasks_file_is_refused_before_anything_moves(tmp_path: Path) -> None:
    """A checkpoint of another task is an error, and the earlier folder stays where it was."""
    path = small_agent(task="add2x2").save(tmp_path / "a.safetensors")
    folder = tmp_path / "run"
    small_agent().learn(run_dir=folder, progress=False)
    with pytest.raises(ConfigError, match="is of the task 'add2x2', and not 'add3x3'"):
        small_agent().learn(run_dir=folder, resume=str(path), progress=False)
    assert (folder / "best.safetensors").exists()


def test_patience_goes_on_counting_after_a_resume(tmp_path: Path) -> None:
    """Stopped in the middle, a run that stops early stops at the same step."""
    settings = {"patience": 3, "steps": 100, "eval_every": 2, "learning_rate": 1e-9,
                "muon_learning_rate": 1e-9, "schedule": "constant"}  # fmt: skip
    whole = small_agent(**settings).learn()
    small_agent(**settings).learn(4, run_dir=tmp_path, progress=False)
    rest = small_agent(**settings).learn(100, run_dir=tmp_path, progress=False)
    assert 4 < whole.state.cursor.step < 100
    assert rest.state.cursor.step == whole.state.cursor.step


def test_a_run_of_other_settings_is_not_answered_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predict with a setting that the run in the folder does not have is an error."""
    small_agent().learn(run_dir=tmp_path, progress=False)
    command = ["--agent", "seq2seq_adder", "--task", "add3x3", "--run-dir", str(tmp_path)]
    command += ["--mode", "predict", "--input", "1+2+3"]
    assert main([*command, "--set", "hidden_size=99"]) == 2
    assert "--set hidden_size: hidden_size: the run in" in capsys.readouterr().err
    assert main(command) == 0


def test_a_folder_that_cannot_be_made_ends_with_74(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code and message of a run folder that the system refuses."""
    assert main([*COMMAND, "--run-dir", "/proc/terrarium"]) == 74
    assert "/proc/terrarium: cannot be written" in capsys.readouterr().err
