"""Characters as small integers."""

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError


@attrs.frozen
class Charset:
    r"""A fixed order of characters; a character's code is its position.

    >>> charset = Charset("\n+0123456789")
    >>> charset.encode("12+7\n").tolist()
    [3, 4, 1, 9, 0]
    >>> charset.decode([3, 4, 1, 9, 0])
    '12+7\n'
    """

    characters: str

    def __len__(self) -> int:
        """Return the number of codes."""
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.uint8]:
        """Return the codes of a text, shape (length,); a character outside is a ConfigError."""
        for position, character in enumerate(text, start=1):
            if character not in self.characters:
                shown = self.characters.strip()
                problem = f"{character!r} at position {position} of {text!r} is not known"
                raise ConfigError("", "", problem, f"the characters {shown}")
        return np.array([self.characters.index(character) for character in text], np.uint8)

    def decode(self, codes: object) -> str:
        """Return the text of codes of shape (length,)."""
        return "".join(self.characters[code] for code in np.asarray(codes, np.int64))
