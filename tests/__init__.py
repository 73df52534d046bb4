"""Tests: contracts over the registries, known answers, and what must survive a crash."""

import pytest

# So that what these assert for several test modules is told in full.
pytest.register_assert_rewrite(
    *(f"tests.helpers.{name}" for name in (
        "adversarial", "attribution", "images", "landscapes", "small_models", "synthesis",
        "unchanged",
    ))
)  # fmt: skip
