"""A lexicon as a scorer: words of a list, and between them whatever is not in words.

Word beam search (Scheidl et al. 2018), with a language model of characters beside it in place of
one of words.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from agents.core.decoding.scorers import FORBIDDEN, Scorer
from tasks.core.memory import read_text
from tasks.core.settings import ConfigError

_Node = dict[str, "_Node"]  # of a tree of words; "" is in it where a word ends


@final
class Lexicon(Scorer):
    """Forbids what is not a word of a list; characters that are in no word stand between words.

    Digits, signs and spaces that no word has are free, in any number. A text ends after a word or
    between two.

    Args:
        words: as they are written, capitals included.
        characters: the task's: code c ≥ 1 is `characters[c - 1]`.

    Raises:
        ConfigError: (a ValueError) no word consists of these characters.
    """

    def __init__(self, words: Iterable[str], characters: str) -> None:
        self._characters = characters
        self._nodes: list[_Node] = [{}]
        self._numbers: dict[int, int] = {id(self._nodes[0]): 0}
        self._tree = self._nodes[0]
        known = set(characters)
        fitting = [word for word in words if word and set(word) <= known]
        if not fitting:
            raise ConfigError("lexicon", "", "no word has only known characters", characters)
        for word in fitting:
            self._add(word)
        self._in_words = set("".join(fitting))
        self._scores: dict[Hashable, NDArray[np.float64]] = {}
        self.start = 0  # the root of the tree: between words

    def _add(self, word: str) -> None:
        node = self._tree
        for character in word:
            if character not in node:
                node[character] = {}
                self._numbers[id(node[character])] = len(self._nodes)
                self._nodes.append(node[character])
            node = node[character]
        node[""] = {}

    @staticmethod
    def read(path: str | Path, characters: str) -> "Lexicon":
        """Read a file with one word a line; see the class.

        Raises:
            ConfigError: (a ValueError) it cannot be read, or has no fitting word.
        """
        try:
            words = read_text(Path(path), "utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                str(path), "", f"cannot be read: {error}", "words, one a line"
            ) from None
        return Lexicon(words, characters)

    def _may_end(self, state: Hashable) -> bool:
        return state == 0 or "" in self._node(state)

    def _node(self, state: Hashable) -> _Node:
        assert isinstance(state, int)
        return self._nodes[state]

    def next_scores(self, state: Hashable) -> NDArray[np.float64]:
        """Return 0 for what may come next, and -inf for all else."""
        found = self._scores.get(state)
        if found is None:
            node, free = self._node(state), self._may_end(state)
            allowed = (
                character in node or (free and character not in self._in_words)
                for character in self._characters
            )  # fmt: skip
            scores = [0.0, *(0.0 if ok else FORBIDDEN for ok in allowed)]
            found = self._scores[state] = np.array(scores)
        return found

    def follow(self, state: Hashable, code: int) -> Hashable:
        """Return the place in the tree of words after one more character; 0: between words."""
        character = self._characters[code - 1]
        if character not in self._in_words:
            return 0
        return self._numbers[id(self._node(state)[character])]

    def end_score(self, state: Hashable) -> float:
        """Return 0 after a word or between two, and -inf within one."""
        return 0.0 if self._may_end(state) else FORBIDDEN
