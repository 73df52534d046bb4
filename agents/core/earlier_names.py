"""Names of earlier versions in the contract of agents: they go on working, with a warning.

`METHODS` are those that a subclass wrote or a caller called, with their name of today.
"""

import inspect
import warnings
from typing import Any

METHODS = {
    "respond": "predict_batch",
    "reply": "generate",
    "study": "observe",
    "respond_to": "predict_arrays",
    "answers": "predict_split",
}
_OF_SUBCLASSES = ("respond", "reply", "study")


def warn(earlier: str, today: str, place: str) -> None:
    """Warn that a name of an earlier version was used."""
    message = f"{place}: {earlier} is {today} now"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def adopt(cls: type) -> None:
    """Let a subclass of an agent that has methods of earlier names pass for one of today.

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
    """Return the method that has another name today; what `__getattr__` of an agent returns.

    Raises:
        AttributeError: no agent ever had such a name.
    """
    if name not in METHODS:
        raise AttributeError(
            f"{type(agent).__name__!r} object has no attribute {name!r}", name=name
        )
    warn(f"{name}()", f"{METHODS[name]}()", type(agent).__name__)
    return getattr(agent, METHODS[name])
