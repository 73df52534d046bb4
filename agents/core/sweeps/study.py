"""Studies of optuna: storage, sampler, pruner; trials that a dead worker left behind."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import filelock
import numpy as np

from agents.core.config import ConfigError
from agents.core.sweeps.space import Choices, Space
from tasks.core.paths import make_folder
from tasks.core.settings import nearest

try:
    import optuna
except ImportError as error:
    raise ConfigError(
        "--mode sweep", "", "optuna is not installed, which chooses values and shares trials",
        "pip install optuna, or --grid with one value after the other",
    ) from error  # fmt: skip
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text
from sqlalchemy.pool import NullPool  # no connection stays open between two calls

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "halving", "hyperband", "none")
_MAX_RETRIES = 10  # of one trial, whose worker may be what kills the machine
_BEATING = (  # in optuna's tables
    "SELECT trial_id FROM trial_heartbeats JOIN trials USING (trial_id) WHERE state = 'RUNNING'"
)
_LOG = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@attrs.frozen(kw_only=True)
class StudySettings:
    """How the trials of a sweep are chosen, shared and ended."""

    folder: Path  # of the sweep
    name: str  # of the study: the same for what may share its trials
    direction: str  # max or min
    sampler: str = "tpe"
    pruner: str = "median"
    storage: str | None = None  # URL of a database; None: a journal file in the folder
    heartbeat: int = 60  # seconds between signs of life, with a database
    seed: int = 0


class StudyStore:
    """Study of a sweep, shared by processes; trials of dead ones are started again.

    On one machine, or one file system, each process holds the kernel's lock (flock) of its trial's
    file, which ends with the process however it ends. With a database a thread of each process
    writes a heartbeat, the first as it claims the trial, and a trial without one for two intervals
    is failed and put back.
    """

    def __init__(self, settings: StudySettings) -> None:
        self._settings = settings
        self._locks = settings.folder / "trials"
        make_folder(self._locks)
        with self._exclusive(), _quiet():
            self.study = optuna.create_study(
                storage=_storage(settings), study_name=settings.name,
                pruner=_pruner(settings),
                direction=_direction(settings.direction),
                load_if_exists=True,
            )  # fmt: skip

    @contextlib.contextmanager
    def claim(self, num_trials: int) -> Iterator["optuna.Trial | None"]:
        """Claim a trial for a `with` block, one that was left behind first; None: all have begun.

        A block that ends by an exception puts its trial back; one that the user interrupts does not
        count among the times that a trial is started again. A block that writes to a trial which
        another process has started again, taking this one for dead, ends without an exception.
        """
        trial = None
        with contextlib.ExitStack() as stack:
            try:
                with self._exclusive():
                    self._revive()
                    if not self._all_have_begun(num_trials):
                        trial = self._ask()
                        stack.enter_context(self._lock_of(trial.number))
                        stack.enter_context(self._heartbeat(trial))
                        self.study.sampler = self._sampler_of(trial)
                try:
                    yield trial
                except optuna.exceptions.UpdateFinishedTrialError:
                    _LOG.warning("another process has started this trial again")
            except BaseException as error:
                if trial is not None:
                    with self._exclusive():
                        self._put_back(self._frozen(trial.number), isinstance(error, Exception))
                raise

    def should_prune(self, trial: "optuna.Trial", step: int, score: float) -> bool:
        """Report the score at a step; tell whether the trial is to end there.

        So does one that another process has started again meanwhile, taking this one for dead.
        """
        reported = self._frozen(trial.number).intermediate_values
        try:
            if step not in reported:  # by the process that had it before
                trial.report(score, step)
        except optuna.exceptions.UpdateFinishedTrialError:
            return True
        return trial.should_prune()

    def tell(self, trial: "optuna.Trial", score: float | None) -> None:
        """Finish a trial with its score; None: it was pruned, diverged or failed."""
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # revived meanwhile
            self.study.tell(trial, score, state=state, skip_if_finished=True)

    def num_unfinished(self) -> int:
        """Return the number of trials that are running or wait to be started again."""
        states = (TrialState.RUNNING, TrialState.WAITING)
        return len(self.study.get_trials(deepcopy=False, states=states))

    def trials(self) -> list[FrozenTrial]:
        """Return the trials without those that were put back, which have a successor."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.FAIL]

    def _all_have_begun(self, num_trials: int) -> bool:
        trials = self.trials()
        return len(trials) >= num_trials and all(t.state != TrialState.WAITING for t in trials)

    def _ask(self) -> "optuna.Trial":
        with _quiet():
            return self.study.ask()

    def _sampler_of(self, trial: "optuna.Trial") -> "optuna.samplers.BaseSampler":
        """Return what draws a trial's values, whichever process does.

        They depend on the seed, the trial's number and earlier scores. One that was put back has
        the number of the first try, and each other one a number of its own.
        """
        every = self.study.get_trials(deepcopy=False)
        first = trial.user_attrs.get("first", trial.number)
        number = sum("first" not in each.user_attrs for each in every[:first])
        return _sampler(self._settings, number)

    def _revive(self) -> None:
        """Put back the trials of dead workers; nobody asks for a trial meanwhile."""
        if self._database is not None:
            with _quiet():
                optuna.storages.fail_stale_trials(self.study)
            self._beat_for_silent(self._database)
            return
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_free(trial.number):
                self._put_back(trial, counts=True)

    def _is_free(self, number: int) -> bool:
        try:
            with self._lock_of(number):
                return True
        except filelock.Timeout:
            return False

    def _put_back(self, trial: FrozenTrial, counts: bool) -> None:
        """Fail a running trial, and let another have its values and the scores so far."""
        try:
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            return  # another process has put it back
        _start_again(self.study, trial, counts)

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _exclusive(self) -> filelock.BaseFileLock:
        return filelock.FileLock(self._settings.folder / "study.lock")

    def _lock_of(self, number: int) -> filelock.BaseFileLock:
        path = self._locks / f"{self._settings.name}-{number}.lock"
        return filelock.FileLock(path, timeout=0)

    def _beat_for_silent(self, database: RDBStorage) -> None:
        """Write a heartbeat for each running trial that has none: its last, as its worker is dead.

        It died right after it had asked for the trial. Without a heartbeat optuna would never take
        the trial for dead; this one is too old two intervals from now, by the database's clock.
        """
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        with database.engine.connect() as connection:
            beating = set(connection.scalars(text(_BEATING)))
        for trial in running:
            if trial._trial_id not in beating:
                database.record_heartbeat(trial._trial_id)

    @property
    def _database(self) -> RDBStorage | None:
        """What keeps heartbeats; None: a file keeps the trials."""
        storage = self.study._storage  # what optuna's own loop uses; `ask` starts no heartbeat
        backend = getattr(storage, "_backend", storage)
        return backend if isinstance(backend, RDBStorage) else None

    @contextlib.contextmanager
    def _heartbeat(self, trial: "optuna.Trial") -> Iterator[None]:
        backend = self._database
        if backend is None:
            yield
            return
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._settings.heartbeat):
                with contextlib.suppress(optuna.exceptions.StorageInternalError):  # the next one
                    backend.record_heartbeat(trial._trial_id)

        backend.record_heartbeat(trial._trial_id)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _start_again(study: "optuna.Study", trial: FrozenTrial, counts: bool = True) -> None:
    """Let a new trial have the values and scores of one that failed, unless it did so too often."""
    tries = trial.user_attrs.get("retries", 0) + counts
    if tries > _MAX_RETRIES:
        values = trial.user_attrs.get("values", trial.params)
        _LOG.warning(
            "trial %d is given up: its worker ended %d times without its score; values %s",
            trial.number, tries, values,
        )  # fmt: skip
        return
    first = trial.user_attrs.get("first", trial.number)
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**trial.user_attrs, "retries": tries, "first": first},
            system_attrs={"fixed_params": trial.params},
            intermediate_values=trial.intermediate_values,
        )
    )


class _FileLock(BaseJournalFileLock):
    """The kernel's lock of a journal file: it ends with a process that is killed."""

    def __init__(self, path: Path) -> None:
        self._lock = filelock.FileLock(path)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def suggest(
    trial: "optuna.Trial", space: Space, applies: Callable[[str, Mapping[str, Any]], bool],
    is_integer: Callable[[str, Mapping[str, Any]], bool],
) -> dict[str, Any]:  # fmt: skip
    """Return a value for each setting of a space that `applies`, given those before it."""
    values: dict[str, Any] = {}
    for name in sorted(space, key=lambda name: name not in ("agent", "task")):
        choice = space[name]
        if not applies(name, values):
            continue
        if isinstance(choice, Choices):
            values[name] = trial.suggest_categorical(name, choice.values)
        elif choice.is_integer and is_integer(name, values):
            low, high = int(choice.low), int(choice.high)
            values[name] = trial.suggest_int(name, low, high, log=choice.is_log)
        else:
            drawn = trial.suggest_float(name, choice.low, choice.high, log=choice.is_log)
            ends = attrs.evolve(choice, low=float(choice.low), high=float(choice.high))
            values[name] = ends.rounded(drawn)
    return {name: values[name] for name in space if name in values}


def importances(
    values: Sequence[Mapping[str, Any]], scores: Sequence[float], direction: str, seed: int = 0
) -> dict[str, float]:
    """Importance of settings: their shares of the variance of the scores, largest first.

    Functional ANOVA (Hutter et al., 2014) of a random forest, over the settings that all trials
    have; empty with fewer than two different scores or settings that vary.
    """
    shared = [name for name in values[0] if all(name in each for each in values)] if values else []
    choices = {name: list({repr(each[name]): each[name] for each in values}.values())
               for name in shared}  # fmt: skip
    varied = {name: found for name, found in choices.items() if len(found) > 1}
    if len(set(scores)) < 2 or not varied:
        return {}
    spaces = {name: _distribution(found) for name, found in varied.items()}
    with _quiet():
        study = optuna.create_study(direction=_direction(direction))
        for each, score in zip(values, scores, strict=True):
            params = {name: each[name] for name in varied}
            study.add_trial(create_trial(params=params, distributions=spaces, value=score))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _distribution(values: Sequence[Any]) -> Any:
    """Return what values are drawn from: numbers by their size, other values by name."""
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not numbers:
        return optuna.distributions.CategoricalDistribution(values)
    low, high = float(min(values)), float(max(values))
    return optuna.distributions.FloatDistribution(low, high, log=low > 0 and high >= 10 * low)


def check_names(sampler: str, pruner: str) -> None:
    """Check the names of sampler and pruner; an unknown one is a ConfigError."""
    for option, name, names in (("--sampler", sampler, SAMPLERS), ("--pruner", pruner, PRUNERS)):
        if name not in names:
            word = option.removeprefix("--")
            raise ConfigError(
                option, "", f"unknown {word} {name!r}", ", ".join(names), nearest(name, names)
            )


def _storage(settings: StudySettings) -> Any:
    if settings.storage is None:
        path = settings.folder / "journal.log"
        return JournalStorage(JournalFileBackend(str(path), _FileLock(Path(f"{path}.lock"))))
    if not settings.storage.startswith("postgresql"):
        problem = f"{settings.storage!r} is not a database that processes can share"
        raise ConfigError("--storage", "", problem, "postgresql+psycopg://USER@HOST/DATABASE")
    try:
        return RDBStorage(
            settings.storage, engine_kwargs={"poolclass": NullPool},
            heartbeat_interval=settings.heartbeat, grace_period=2 * settings.heartbeat,
            heartbeat_stale_trial_callback=_start_again,
        )  # fmt: skip
    except ImportError as error:
        problem = f"{error.name or error} is not installed"
        raise ConfigError("--storage", "", problem, "pip install 'psycopg[binary]'") from error
    except Exception as error:
        problem = f"cannot be used: {str(error).splitlines()[0]}"
        accepted = "a database that is running, postgresql+psycopg://USER@HOST/DATABASE"
        raise ConfigError("--storage", "", problem, accepted) from error


def _direction(direction: str) -> Literal["maximize", "minimize"]:
    return "maximize" if direction == "max" else "minimize"


def _sampler(settings: StudySettings, number: int) -> "optuna.samplers.BaseSampler":
    """Return the sampler of a trial's values."""
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    with _quiet():  # constant_liar: other values than those of trials that are running
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(settings: StudySettings) -> "optuna.pruners.BasePruner":
    match settings.pruner:
        case "median":
            return optuna.pruners.MedianPruner()
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner()
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
        case _:
            return optuna.pruners.NopPruner()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ignore optuna's notes on heartbeats and constant_liar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # `claim` has a thread for it
        yield
