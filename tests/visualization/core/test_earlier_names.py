"""Earlier names of modules, functions and keywords: they work, and say what they are now."""

import contextlib
import importlib
import inspect
import pkgutil
import sys
import warnings
from types import FunctionType

import attrs
import pytest
import torch
from torch import nn

import visualization
from visualization import conv, recurrent
from visualization.core.earlier_fields import FIELDS
from visualization.core.earlier_names import MODULES, NAMES, PACKAGES, renamed_arguments


def imported_anew(name: str) -> object:
    """Return a module that is imported as if for the first time."""
    sys.modules.pop(name, None)
    return importlib.import_module(name)


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_an_earlier_module_is_that_of_today(old: str, new: str) -> None:
    """It is the same module, under its own name, and the warning names it."""
    today = importlib.import_module(new)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}$"):
        assert imported_anew(old) is today
    assert today.__name__ == new


@pytest.mark.parametrize("module", NAMES)
def test_an_earlier_name_is_what_it_is_now(module: str) -> None:
    """Each name gives the object of today, which is listed nowhere under the earlier name."""
    today = importlib.import_module(module)
    for old, new in NAMES[module].items():
        owner, _, name = new.rpartition(".")
        wanted = getattr(importlib.import_module(owner), name)
        with pytest.warns(DeprecationWarning, match=f"{module}.{old} is now {new}$"):
            assert getattr(today, old) is wanted
        assert old not in vars(today)


def test_what_never_was_is_missing_still() -> None:
    """A name that neither exists nor existed is an error as of any module, and so is a module."""
    with pytest.raises(AttributeError, match=r"'visualization\.conv' has no attribute 'salency'"):
        _ = conv.salency
    with pytest.raises(ModuleNotFoundError, match="lime"):
        importlib.import_module("visualization.conv.attribution.lime")


def test_an_earlier_package_gives_its_modules() -> None:
    """`from visualization.conv.attribution import cams` works, of each package that was."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        assert getattr(module, "__path__", None) is not None, package
    for name in ("visualization.conv.attribution.cams", "visualization.conv.attribution"):
        sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=r"attribution\.cams"):
        from visualization.conv.attribution import cams
    assert cams.grad_cam is conv.grad_cam


def functions_with_earlier_keywords() -> list[FunctionType]:
    """Return all functions of the package that take earlier keywords, each once."""
    found = {}
    for info in pkgutil.walk_packages(visualization.__path__, "visualization."):
        module = importlib.import_module(info.name)
        for function in vars(module).values():
            if hasattr(function, "renamed") and function.__module__ == info.name:
                found[function.__qualname__] = function
    return list(found.values())


def test_earlier_keywords_mean_arguments_that_exist() -> None:
    """What a keyword is now is an argument, and what it was is none."""
    functions = functions_with_earlier_keywords()
    assert len(functions) > 20
    for function in functions:
        arguments = inspect.signature(function).parameters
        for old, new in function.renamed.items():
            assert new in arguments, (function, new)
            assert old not in arguments, (function, old)


def test_an_earlier_keyword_is_taken() -> None:
    """The result is that of today's keyword; the line that is warned of is the caller's."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    image = torch.rand(1, 1, 8, 8)
    with pytest.warns(DeprecationWarning, match=r"grad_cam\(layer=…\) is now cam_layer=…") as seen:
        found = conv.grad_cam(model, image, 1, layer="1")
    assert seen[0].filename == __file__
    assert torch.equal(found, conv.grad_cam(model, image, 1, cam_layer="1"))
    with pytest.warns(DeprecationWarning, match=r"intervene_on\(keep=…\)"):
        recurrent.intervene_on(nn.LSTM(2, 3), keep=True)


def test_both_keywords_at_once_are_refused() -> None:
    """An earlier keyword beside today's is an error, as any argument that is given twice."""

    @renamed_arguments(clock="start_time")
    def run(start_time: int = 0) -> int:
        return start_time

    assert run(start_time=2) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(clock=3) == 3
        with pytest.raises(TypeError, match="start_time"):
            run(clock=3, start_time=4)


def record_classes() -> dict[str, type]:
    """Return the classes of the table of earlier fields, by name."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(visualization.__path__, "visualization.")
    ]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name in FIELDS and inspect.isclass(value) and value.__module__ == module.__name__
    }


def test_records_are_read_by_earlier_names_of_their_fields() -> None:
    """Each class of the table has today's field, and gives it by its earlier name, and warns."""
    classes = record_classes()
    for name, fields in FIELDS.items():
        cls = classes[name]
        record = object.__new__(cls)
        for old, new in fields.items():
            assert hasattr(cls, new), (name, new)
            assert old not in vars(cls), (name, old)
            warned = pytest.warns(DeprecationWarning, match=f"{name}.{old} is now .{new}$")
            with warned, contextlib.suppress(AttributeError, TypeError):  # it has no values
                getattr(record, old)
        with pytest.raises(AttributeError, match=f"{name!r} object has no attribute 'nothing'"):
            _ = record.nothing
    field = conv.receptive_field(nn.Conv2d(1, 1, 3), "", (0, 1, 1), (1, 6, 6))
    with pytest.warns(DeprecationWarning, match=r"ReceptiveField.hull is now .bounding_box"):
        assert field.hull == field.bounding_box


@pytest.mark.parametrize("name", FIELDS)
def test_records_are_made_by_earlier_names_of_their_fields(name: str) -> None:
    """Each class takes a field by its earlier name, with a warning of the line that gives it."""
    cls = record_classes()[name]
    earlier = {new: old for old, new in FIELDS[name].items()}
    values = {field.name: object() for field in attrs.fields(cls)}
    for new in earlier.keys() & values.keys():
        given = {earlier[new] if key == new else key: value for key, value in values.items()}
        message = rf"{name}\({earlier[new]}=…\) is now {new}=…$"
        with pytest.warns(DeprecationWarning, match=message) as seen:
            record = cls(**given)
        assert seen[0].filename == __file__
        assert getattr(record, new) is values[new]
        with pytest.raises(TypeError, match=f"{name}: {new} is given twice"):
            cls(**values, **{earlier[new]: 0})
