"""Errors: those with a meaning of their own, and the one form of what is wrong with an argument."""

import difflib
from collections.abc import Iterable


class NothingToShow(ValueError):  # noqa: N818 - what is said of a view, often no error at all
    """A view has nothing to show of this model, such as maps of one without convolutions.

    Among all views of a report the reason is in the view's place. Any other error of a view is
    an error.
    """


def argument_error(
    field: str, problem: object, accepted: object, near: tuple[str, Iterable[str]] | None = None
) -> ValueError:
    """Return the error of an argument: its name, what is wrong, and what is accepted.

    >>> print(argument_error("norm", "there is no 'l3'", "linf, l2", ("l3", ["linf", "l2"])))
    norm: there is no 'l3'; accepted: linf, l2; did you mean 'l2'?

    Args:
        field: the argument, such as `step_size`.
        problem: what is wrong with its value.
        accepted: what is right.
        near: a name that does not exist and those that do, of which the nearest is proposed.
    """
    name, names = near or ("", ())
    by_lower = {each.lower(): each for each in names}
    nearest = difflib.get_close_matches(name.lower(), by_lower, 1, 0.0)
    suggestion = f"; did you mean {by_lower[nearest[0]]!r}?" if nearest else ""
    return ValueError(f"{field}: {problem}; accepted: {accepted}{suggestion}")


def value_error(field: str, value: object, accepted: object) -> ValueError:
    """Return the error of an argument whose value is not accepted.

    >>> print(value_error("keep", 2.0, "above 0, at most 1"))
    keep: 2.0 is not accepted; accepted: above 0, at most 1
    """
    return argument_error(field, f"{value} is not accepted", accepted)


def unknown_name_error(field: str, name: str, names: Iterable[str], more: str = "") -> ValueError:
    """Return the error of a name that does not exist, with those that do and the nearest.

    >>> print(unknown_name_error("norm", "l3", ["linf", "l2"]))
    norm: 'l3' is not accepted; accepted: linf, l2; did you mean 'l2'?
    """
    known = list(names)
    problem, accepted = f"{name!r} is not accepted", ", ".join(known) + more
    return argument_error(field, problem, accepted, (str(name), known))


def not_called_error(field: str, layer: object) -> ValueError:
    """Return the error of a layer that the model has and does not use."""
    problem = f"{layer!r} was not called while the model ran"
    return argument_error(field, problem, "layers that the model calls")


def check_count(number: int | None, name: str, least: int = 1) -> None:
    """Raise a ValueError if a number is below `least`; None is none."""
    if number is not None and number < least:
        raise value_error(name, number, f"{least} or more")


def check_share(share: float, name: str, *, whole: bool = False) -> None:
    """Raise a ValueError unless a share is above 0 and below 1; with `whole`, 1 is one too."""
    if not 0 < share < 1 and not (whole and share == 1):
        raise value_error(name, share, "above 0, up to 1" if whole else "above 0, below 1")
