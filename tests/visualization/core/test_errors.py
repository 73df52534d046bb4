"""What is said of an argument that does not fit has one form."""

import re
from pathlib import Path

import pytest

import visualization
from visualization.core.errors import (
    argument_error,
    check_count,
    check_share,
    unknown_name_error,
    value_error,
)


def test_an_error_names_argument_problem_accepted_and_nearest() -> None:
    """Each part is in its place; the nearest name is found whatever its case."""
    assert (
        str(value_error("keep", 2.0, "up to 1")) == "keep: 2.0 is not accepted; accepted: up to 1"
    )
    error = unknown_name_error("norm", "LINV", ["l2", "linf"], ", or none")
    assert str(error) == (
        "norm: 'LINV' is not accepted; accepted: l2, linf, or none; did you mean 'linf'?"
    )
    assert str(argument_error("a", "is missing", (1, 2), ("b", []))) == (
        "a: is missing; accepted: (1, 2)"
    )


def test_counts_and_shares_are_checked() -> None:
    """Numbers at the bounds pass or not as the message says."""
    check_count(None, "k")
    check_count(1, "k")
    check_share(1.0, "share", whole=True)
    with pytest.raises(ValueError, match="k: 1 is not accepted; accepted: 2 or more"):
        check_count(1, "k", 2)
    for share, whole in ((0.0, True), (1.5, True), (1.0, False), (float("nan"), True)):
        with pytest.raises(ValueError, match=f"share: {share} is not accepted; accepted: above 0"):
            check_share(share, "share", whole=whole)


def test_no_message_is_composed_by_hand() -> None:
    """What is accepted, and the nearest name, are written in one module alone."""
    root = Path(visualization.__path__[0])
    for path in root.rglob("*.py"):
        if path != root / "core" / "errors.py":
            source = path.read_text(encoding="utf-8")
            assert not re.search(r"\bValueError\($|\bValueError\(f?\"|get_close_matches", source), (
                path
            )
