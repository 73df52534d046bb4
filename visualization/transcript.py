"""What a terminal showed."""

import attrs


@attrs.frozen
class Transcript:
    """Lines of a terminal."""

    text: str
