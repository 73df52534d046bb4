"""Tests: contracts over the registries, known answers, and what must survive a crash."""

import pytest

# So that what these assert for several test modules is told in full.
pytest.register_assert_rewrite(
    "tests.attacked", "tests.explained", "tests.landscapes", "tests.left_alone", "tests.maximised",
    "tests.pictured", "tests.small_models",
)  # fmt: skip
