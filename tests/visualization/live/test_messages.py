"""Messages of the live page: what is packed comes back, and rubbish is an error with words."""

import contextlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import live as small
from tests.helpers.fuzzed import BUFFERS, FIELDS, JSON, answered
from visualization.live.messages import Arguments, pack, unpack
from visualization.live.session import Live, LivePanel, Session

CALLS = ("frame", "original", "sample", "unit", "explain", "targets", "upload", "save", "")
_SESSION = Session(small.live())


@given(st.dictionaries(st.text().filter(lambda n: n != "buffers"), JSON), st.lists(st.binary()))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_is_packed_comes_back(header: dict[str, Any], buffers: list[bytes]) -> None:
    """Header and buffers are the same after a frame is unpacked."""
    assert unpack(pack(header, buffers)) == (header, buffers)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it has 0 bytes"),
        (b"abc", "it has 3 bytes"),
        (struct.pack("<I", 2**31) + b"{}", "a header of 2,147,483,648 bytes"),
        (struct.pack("<I", 2) + b"{]", "its header is no JSON"),
        (struct.pack("<I", 2) + b"\xff\xff", "its header is no JSON"),
        (struct.pack("<I", 200000) + b"[" * 200000, "its header is no JSON"),
        (struct.pack("<I", 2) + b"[]", "lists no buffers"),
        (struct.pack("<I", 16) + b'{"buffers":[-1]}', "lists no buffers"),
        (struct.pack("<I", 15) + b'{"buffers":[4]}ab', "buffers of 4 bytes in 2"),
    ],
)
def test_a_frame_that_is_none_is_refused(content: bytes, problem: str) -> None:
    """The error says what is wrong with the bytes, and what is accepted."""
    with pytest.raises(ValueError, match=f"message: .*{problem}.*accepted: 4 bytes"):
        unpack(content)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_rubbish_never_fails_otherwise(content: bytes) -> None:
    """Any bytes are a frame, or a ValueError."""
    with contextlib.suppress(ValueError):
        header, buffers = unpack(content)
        assert unpack(pack(header, buffers)) == (header, buffers)


@given(st.sampled_from(CALLS), FIELDS, BUFFERS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_call_is_answered(call: str, fields: dict[str, Any], buffers: list[bytes]) -> None:
    """Whatever a message asks of images, the reply can be sent, has its number, and is no bug."""
    header = answered(_SESSION, "image", call, fields, buffers)
    assert header["id"] == 7
    assert "a bug" not in header.get("error", "")


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("channel", 1.0, "a whole number from 0 to 3"),
        ("channel", True, "a whole number from 0 to 3"),
        ("channel", 4, "a whole number from 0 to 3"),
        ("row", "1", "a whole number from 0 to 11"),
        ("layer", "2", "1, 3"),
    ],
)
def test_an_error_names_field_value_and_what_is_accepted(
    field: str, value: object, accepted: str
) -> None:
    """A unit that does not exist is refused in words."""
    image = small.samples()[0]
    where = {"layer": small.LAYER, "channel": 0, "row": 0, "column": 0, field: value}
    error = small.ask(Session(small.live()), "unit", image, **where).data["error"]
    assert error.startswith(f"{field}: {value!r}")
    assert accepted in error


def test_an_array_of_another_size_or_with_nan_is_refused() -> None:
    """A buffer must have the bytes of the image, and finite numbers."""
    with pytest.raises(ValueError, match=r"buffers of \[8\] bytes; accepted: 4 bytes"):
        Arguments({}, [b"\0" * 8]).array((1,))
    with pytest.raises(ValueError, match="NaN or inf"):
        Arguments({}, [np.array([np.nan], "<f4").tobytes()]).array((1,))


def test_numbers_in_a_reply_are_json() -> None:
    """A header without NaN is read by any JSON reader; with one it is refused."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack({"a": float("nan")})
    assert json.loads(pack({"a": 1.5})[4:]) == {"a": 1.5, "buffers": []}


def test_an_integer_that_no_float_can_have_is_refused() -> None:
    """A number of 400 digits is not accepted, in the words of any other."""
    with pytest.raises(ValueError, match=r"noise: 1000.* a number from"):
        Arguments({"noise": 10**400}).number("noise")


class Failing(LivePanel):
    """A panel that cannot be shown."""

    name = "run"
    calls: Mapping[str, Any] = {}

    def describe(self) -> Mapping[str, Any]:
        """Fail."""
        raise ValueError("weights: they have diverged")


def test_a_panel_that_cannot_be_shown_leaves_the_others() -> None:
    """The page learns why one panel is not there, and gets the other."""
    good = small.live()
    reply = Session(Live(title="", panels=[*good.panels, Failing])).handle({"id": 1})
    first, second = reply.data["panels"]
    assert first["shape"] == (1, small.SIZE, small.SIZE)
    assert second == {"name": "run", "problem": "weights: they have diverged"}
