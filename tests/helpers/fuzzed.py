"""Messages at random for sessions of the live page."""

from typing import Any

from hypothesis import strategies as st

from visualization.live.messages import pack, unpack
from visualization.live.session import Session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_NAMES = (
    "layer", "compared", "channels", "edits", "step", "number", "channel", "row", "column",
    "method", "target", "noise", "blur", "question", "part", "quantity", "order", "first", "num",
    "unit", "hidden", "head", "hidden_from", "revision", "sample", "view", "stamp",
)  # fmt: skip
FIELDS = st.dictionaries(st.sampled_from(_NAMES), JSON)
BUFFERS = st.lists(st.binary(max_size=40), max_size=3)


def answered(session: Session, panel: str, call: str, fields: Any, buffers: Any) -> dict[str, Any]:
    """Send the message with the number 7; return the header of the reply as it is sent."""
    reply = session.handle({**fields, "id": 7, "panel": panel, "call": call}, buffers)
    return unpack(pack(reply.data, reply.buffers))[0]
