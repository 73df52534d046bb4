"""Earlier names in agents: they keep working, with a DeprecationWarning.

`METHODS` are methods that a subclass defined or a caller called, with their present names;
`MODULES` those that were imported.
"""

import importlib
import inspect
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

METHODS = {
    "respond": "predict_batch",
    "reply": "generate",
    "study": "observe",
    "respond_to": "predict_arrays",
    "answers": "predict_split",
}
_MODULES = """
checkpoint=core.runs.checkpoint command=cli.modes comparing=core.analysis.comparison
convolutional=core.inspection.images devices=core.training.devices doctor=core.analysis.diagnosis
history=core.runs.history learning=core.training.trainer logs=core.runs.sinks
loop=core.training.loop optim=core.training.optimizer orders=cli.run_spec
parallel=core.training.parallel pieces=core.training.evaluation progression=core.runs.snapshots
recurrent=core.inspection.recurrent run_folder=core.runs.run_folder signals=core.training.signals
state=core.training.state streams=cli.streams study=core.inspection.observation sweep=cli.sweep
trials=core.analysis.trials vitals=core.training.monitoring writing=core.seq2seq
"""
MODULES = {
    f"agents.core.{old}": f"agents.{new}"
    for old, new in (pair.split("=") for pair in _MODULES.split())
}
_OF_SUBCLASSES = ("respond", "reply", "study")


def warn(earlier: str, today: str, place: str) -> None:
    """Warn that a name of an earlier version was used."""
    message = f"{place}: {earlier} is {today} now"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def attribute(earlier: str, today: str) -> property:
    """Return a property of an earlier name: it reads and writes the present attribute."""

    def read(instance: Any) -> Any:
        warn(earlier, today, type(instance).__name__)
        return getattr(instance, today)

    def write(instance: Any, value: Any) -> None:
        warn(earlier, today, type(instance).__name__)
        setattr(instance, today, value)

    return property(read, write)


def adopt(cls: type) -> None:
    """Give a subclass that defines methods by their earlier names the present ones.

    `build_model(self, spec)` read the config from the agent; `views()` returned the agent's own.
    """
    own = vars(cls)
    for earlier in _OF_SUBCLASSES:
        today = METHODS[earlier]
        if earlier in own and today not in own:
            warn(f"{earlier}()", f"{today}()", cls.__name__)
            setattr(cls, today, own[earlier])
    if "views" in own:
        warn("views()", "own_views()", cls.__name__)
        cls.own_views = own["views"]  # type: ignore[attr-defined]
        del cls.views  # type: ignore[attr-defined]
    build = own.get("build_model")
    if inspect.isfunction(build) and list(inspect.signature(build).parameters)[:1] == ["self"]:
        warn("build_model(self, spec)", "@staticmethod build_model(config, spec)", cls.__name__)

        def build_model(config: Any, spec: Any) -> Any:
            agent: Any = object.__new__(cls)
            agent.config = config
            return build(agent, spec)

        cls.build_model = staticmethod(build_model)  # type: ignore[attr-defined]


def method(agent: Any, name: str) -> Any:
    """Return a method by its earlier name, for `__getattr__` of an agent.

    Raises:
        AttributeError: no agent ever had the name.
    """
    if name not in METHODS:
        raise AttributeError(
            f"{type(agent).__name__!r} object has no attribute {name!r}", name=name
        )
    warn(f"{name}()", f"{METHODS[name]}()", type(agent).__name__)
    return getattr(agent, METHODS[name])


class _Earlier(Loader):
    """Loads the present module in place of an earlier one."""

    def exec_module(self, module: ModuleType) -> None:
        """Replace the module."""
        new = MODULES[module.__name__]
        message = f"{module.__name__} is {new} now"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module by the name that it had."""
        return ModuleSpec(name, _Earlier()) if name in MODULES else None


sys.meta_path.append(_Finder())
