"""Sweeps by several workers: shared trials, a worker that is killed, Ctrl-C, PostgreSQL."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from agents.core.config import ConfigError
from agents.core.sweeps.study import StudySettings, StudyStore
from tests.helpers.ranks import LIMIT, descendants, finished, started
from tests.system.test_sweep import COMMAND, rows

SEARCH = [*COMMAND, "--search", "learning_rate=1e-4..0.1:log", "--pruner", "none"]
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def store(folder: Path) -> StudyStore:
    return StudyStore(StudySettings(folder=folder, name="s", direction="max"))


def ended(*arguments: str) -> tuple[int, str]:
    """Run Python with arguments; return exit code and messages."""
    done = finished([sys.executable, *arguments])
    return done.returncode, done.stderr


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there; Python's own helpers end a little after their parent."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def checkpointed(folder: Path) -> list[Path]:
    """Return the runs of a sweep that have a checkpoint."""
    return [path.parents[1] for path in folder.glob("*/checkpoints/*.safetensors")]


def test_two_stores_never_claim_the_same_trial(tmp_path: Path) -> None:
    """A trial that is claimed is nobody else's, and no more are claimed than there are in all."""
    first, second = store(tmp_path), store(tmp_path)
    with first.claim(2) as a, second.claim(2) as b, first.claim(2) as none:
        assert a is not None
        assert b is not None
        assert {a.number, b.number} == {0, 1}
        assert none is None


def test_an_interrupted_trial_is_put_back_with_its_values(tmp_path: Path) -> None:
    """Who claims after an interruption gets the same values, and the number of trials is kept."""
    study = store(tmp_path)
    claimed = study.claim(1)
    trial = claimed.__enter__()
    assert trial is not None
    value = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 10)
    assert not claimed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with study.claim(1) as again:
        assert again is not None
        assert again.suggest_float("x", 0, 1) == value
        study.tell(again, 1.0)
    (only,) = study.trials()
    assert only.intermediate_values == {10: 0.5}
    with study.claim(1) as more:
        assert more is None


def interrupt(study: StudyStore, error: BaseException) -> float:
    """Claim the one trial, and let an exception end the block; return the trial's value."""
    claimed = study.claim(1)
    trial = claimed.__enter__()
    assert trial is not None
    value = trial.suggest_float("x", 0, 1)
    assert not claimed.__exit__(type(error), error, None)
    return value


def test_a_trial_is_put_back_under_the_lock_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process sees a trial that has failed and has no successor yet."""
    study, tell, states = store(tmp_path), optuna.Study.tell, []

    def is_locked(*arguments: Any, **options: Any) -> Any:
        with pytest.raises(filelock.Timeout), filelock.FileLock(tmp_path / "study.lock", timeout=0):
            pass
        states.append(options["state"])
        return tell(*arguments, **options)

    monkeypatch.setattr(optuna.Study, "tell", is_locked)
    interrupt(study, ValueError())
    assert states == [TrialState.FAIL]


def test_interruptions_do_not_give_a_trial_up(tmp_path: Path) -> None:
    """However often the user ends a worker, the trial keeps its scores."""
    study = store(tmp_path)
    claimed = study.claim(1)
    trial = claimed.__enter__()
    assert trial is not None
    trial.report(0.5, 10)
    claimed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    for error in [KeyboardInterrupt(), SystemExit(143)] * 6:
        interrupt(study, error)
    (only,) = study.trials()
    assert only.intermediate_values == {10: 0.5}


def test_a_trial_that_always_fails_is_given_up_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After eleven tries another trial is drawn in its place, with values of its own."""
    settings = StudySettings(folder=tmp_path, name="s", direction="max", sampler="random")
    study = StudyStore(settings)
    values = [interrupt(study, ValueError()) for _ in range(12)]
    assert len(set(values[:11])) == 1
    assert values[11] != values[0]
    (warning,) = caplog.messages
    assert "trial 10 is given up" in warning
    assert str(values[0]) in warning


def test_a_trial_put_back_before_it_had_values_gets_those_of_no_other(tmp_path: Path) -> None:
    """Each trial is drawn by a seed of its own, which is kept by one that is started again."""
    settings = StudySettings(folder=tmp_path, name="s", direction="max", sampler="random")
    study = StudyStore(settings)
    claimed = study.claim(3)
    claimed.__enter__()
    claimed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    values = []
    for _ in range(3):
        with study.claim(3) as trial:
            assert trial is not None
            values.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, 1.0)
    assert len(set(values)) == 3


def test_a_trial_that_another_worker_has_started_again_is_pruned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who was taken for dead ends the run at its next score, and goes on with other trials."""
    study = store(tmp_path)
    with study.claim(2) as trial:
        assert trial is not None
        assert not study.should_prune(trial, 1, 0.5)
        study.study.tell(trial.number, state=TrialState.FAIL)  # as another process does
        assert study.should_prune(trial, 2, 0.5)
        trial.set_user_attr("values", {})
        pytest.fail("a trial that has ended takes nothing")
    assert "another process" in caplog.text
    with study.claim(2) as other:
        assert other is not None


def test_values_do_not_depend_on_who_draws_them(tmp_path: Path) -> None:
    """A random search has the same values with one worker and with two."""

    def values(folder: Path, num: int) -> list[float]:
        workers = [
            StudyStore(StudySettings(folder=folder, name="s", direction="max", sampler="random"))
            for _ in range(num)
        ]
        for number in range(6):
            with workers[number % num].claim(6) as trial:
                assert trial is not None
                workers[number % num].tell(trial, trial.suggest_float("x", 0, 1))
        return [trial.params["x"] for trial in workers[0].trials()]

    alone = values(tmp_path / "one", 1)
    assert values(tmp_path / "two", 2) == alone
    assert len(set(alone)) == 6


CLAIM = """
import signal
import sys
from pathlib import Path
from agents.core.sweeps.study import StudySettings, StudyStore

url = sys.argv[2] or None
settings = StudySettings(
    folder=Path(sys.argv[1]), name="s", direction="max", storage=url, heartbeat=1
)
with StudyStore(settings).claim(1) as trial:
    print(trial.suggest_float("x", 0, 1), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_the_trial_of_a_dead_worker_is_claimed_by_the_next(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """With the same value: the kernel's lock, or missing heartbeats, say that a worker is dead."""
    url = request.getfixturevalue("database") if kind == "postgresql" else None

    def other(heartbeat: int) -> StudyStore:
        return StudyStore(StudySettings(
            folder=tmp_path, name="s", direction="max", storage=url, heartbeat=heartbeat
        ))  # fmt: skip

    with started([sys.executable, "-c", CLAIM, str(tmp_path), url or ""]) as process:
        assert process.stdout is not None
        value = float(process.stdout.readline())
        with other(heartbeat=60).claim(1) as early:  # who waits two minutes for a sign of life
            assert early is None  # it is alive
    last = other(heartbeat=1)

    def is_claimed() -> bool:
        with last.claim(1) as trial:
            if trial is None:
                return False
            assert trial.suggest_float("x", 0, 1) == value
            last.tell(trial, 1.0)
            return True

    wait_until(is_claimed)
    assert last.num_unfinished() == 0
    assert len(last.trials()) == 1


@pytest.fixture
def in_database(tmp_path: Path, database: str) -> StudyStore:
    """Return a store of trials in the database, with an hour between signs of life."""
    return StudyStore(StudySettings(
        folder=tmp_path, name=tmp_path.name, direction="max", storage=database, heartbeat=3600
    ))  # fmt: skip


def test_the_trial_of_a_worker_that_died_before_its_first_heartbeat_is_claimed(
    in_database: StudyStore, database: str
) -> None:
    """Whoever looks first writes a heartbeat for it; when that is too old, the trial is free."""
    in_database._ask()  # and no more: the worker was killed
    for _ in range(2):  # the second look leaves the heartbeat as it is
        with in_database.claim(1) as early:
            assert early is None
        age_heartbeats(database, seconds=3500)
    with in_database.claim(1) as early:
        assert early is None  # two intervals have not passed yet
    age_heartbeats(database, seconds=300)
    with in_database.claim(1) as trial:
        assert trial is not None
        in_database.tell(trial, 1.0)
    assert in_database.num_unfinished() == 0
    assert len(in_database.trials()) == 1


def age_heartbeats(url: str, seconds: int) -> None:
    """Make all heartbeats in a database older, as if this time had passed."""
    command = f"UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '{seconds} seconds'"
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(command))


def test_a_trial_whose_first_heartbeat_fails_is_put_back(
    in_database: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error or an interruption between question and first heartbeat leaves nothing behind."""
    for error in (optuna.exceptions.StorageInternalError("gone"), KeyboardInterrupt()):

        def fails(*_: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(RDBStorage, "record_heartbeat", fails)
            with pytest.raises(type(error)):
                in_database.claim(1).__enter__()
        states = (TrialState.RUNNING,)
        assert in_database.study.get_trials(states=states) == []
    with in_database.claim(1) as trial:
        assert trial is not None
        assert trial.user_attrs["retries"] == 1  # the interruption does not count


@pytest.mark.slow  # two processes that start; of a database, two heartbeats to stay away
@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_the_run_of_a_killed_worker_is_finished_by_another(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """It is resumed from its checkpoint, in its folder."""
    folder, more = tmp_path / "sweep", []
    if kind == "postgresql":
        more = ["--storage", request.getfixturevalue("database"), "--heartbeat", "1"]
    command = [*SEARCH, "--trials", "2", "--run-dir", str(folder), *more]
    code, messages = ended("-m", "tests.helpers.sweep_host", "kill=8", *command)
    assert code == -signal.SIGKILL, messages
    (killed,) = set(checkpointed(folder))
    code, messages = ended("main.py", *command)
    assert code == 0, messages
    table = rows(folder)
    assert [row["ended"] for row in table] == ["done", "done"]
    assert killed.name in {f"learning_rate={row['learning_rate']}" for row in table}
    assert len((killed / "command.txt").read_text().splitlines()) == 2
    assert "continuing from step 6" in messages
    assert json.loads((killed / "status.json").read_text())["state"] == "done"


@pytest.mark.slow  # four processes that start
def test_ctrl_c_ends_all_workers_and_the_same_command_continues(tmp_path: Path) -> None:
    """SIGINT to the first process ends both with exit code 130; runs are saved and resumed."""
    folder, waiting = tmp_path / "sweep", tmp_path / "waiting"
    waiting.mkdir()
    command = [*SEARCH, "--trials", "2", "--workers", "2", "--run-dir", str(folder)]
    host = [sys.executable, "-m", "tests.helpers.sweep_host", f"wait=8:{waiting}"]
    with started([*host, *command]) as process:
        wait_until(lambda: len(list(waiting.iterdir())) == 2 or process.poll() is not None)
        others = descendants(process.pid)
        assert others
        process.send_signal(signal.SIGINT)
        messages = process.communicate(timeout=LIMIT)[1]
        assert process.returncode == 130, messages
        assert "Traceback" not in messages
        wait_until(lambda: not any(map(is_alive, others)))
    states = [json.loads(path.read_text()) for path in folder.glob("*/status.json")]
    assert [(each["state"], each["step"]) for each in states] == [("interrupted", 8)] * 2
    code, messages = ended("main.py", *command)
    assert code == 0, messages
    assert [row["ended"] for row in rows(folder)] == ["done", "done"]
    commands = [path.read_text().splitlines() for path in folder.glob("*/command.txt")]
    assert [len(lines) for lines in commands] == [2, 2]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Start a PostgreSQL on a Unix socket in a folder of its own; yield its URL."""
    if POSTGRES is None:
        if os.environ.get("TERRARIUM_NEEDS_POSTGRES"):
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    pytest.importorskip("psycopg")
    is_root = os.geteuid() == 0
    folder = Path("/tmp") / f"terrarium-postgres-{os.getpid()}"  # short: a socket's path
    folder.mkdir(mode=0o700)
    prefix = ["runuser", "-u", "postgres", "--"] if is_root else []
    if is_root:
        shutil.chown(folder, "postgres")

    def call(*command: str) -> None:
        done = subprocess.run([*prefix, *command], cwd="/", capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    data = str(folder / "data")
    try:
        call(str(POSTGRES / "initdb"), "-D", data, "-U", "postgres", "--auth=trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        log = str(folder / "log")
        call(str(POSTGRES / "pg_ctl"), "-D", data, "-w", "-l", log, "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            call(str(POSTGRES / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_an_unknown_database_is_named(tmp_path: Path) -> None:
    """What is no shared database, or does not answer, is an error that says what is accepted."""
    for url in ("sqlite:///trials.db", f"postgresql+psycopg://x@/x?host={tmp_path}"):
        with pytest.raises(ConfigError, match="--storage"):
            StudyStore(StudySettings(folder=tmp_path, name="s", direction="max", storage=url))
