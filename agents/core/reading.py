"""What readers of lines share: the CTC loss, decoders, fine-tuning, observation.

B lines, H × W pixels, T columns, C feature maps, U units in each direction, V codes with the blank.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.readers import ReaderConfig
from agents.core.agent import Agent
from agents.core.config import ConfigError
from agents.core.decoding import alignment
from agents.core.decoding.alignment import Reading
from agents.core.decoding.confidence import confidences_of_lines
from agents.core.decoding.ctc import constant_ctc_loss
from agents.core.decoding.decoders import (
    BeamDecoder,
    Decoder,
    GreedyDecoder,
    beam_decoder,
    own_rows,
)
from agents.core.line_augmentation import augment_lines
from agents.core.line_encoder import COLUMN, columns_of
from agents.core.runs.checkpoint import Checkpoint, read_agent
from tasks.core.paths import expand_user
from tasks.handwriting.lines import ImageToText, LineImages, LineTask

if TYPE_CHECKING:
    from agents.core.export import Graph
    from agents.core.inspection.observation import Observation

NUM_OBSERVED = 64  # lines of the views, at most: each has some hundred columns
_EXPLAINED = 4  # first characters of a line that are targets of attribution
_LEAST_HEIGHT = 16  # pixels, of which the pools leave one
_LOG = logging.getLogger(__name__)


def check_sizes(config: ReaderConfig, spec: ImageToText) -> None:
    """Refuse a task whose lines are too low, or have other characters than were learned.

    Raises:
        ConfigError: names the setting.
    """
    if spec.height < _LEAST_HEIGHT:
        problem = f"lines of {spec.height} pixels are too low for four pools"
        raise ConfigError("task", "height", problem, f"≥ {_LEAST_HEIGHT}")
    if config.characters not in (None, spec.characters):
        problem = f"the task's are {spec.characters!r}, the reader's {config.characters!r}"
        accepted = "a task with the same ones; to learn others, init_from"
        raise ConfigError(type(config).__name__, "characters", problem, accepted)


def fits(batch: LineImages) -> Tensor:
    """Return whether each line has columns enough for its text (B,).

    A text needs a column for each character, and one for a blank between equal ones.
    """
    text, places = batch.text, torch.arange(batch.text.shape[1], device=batch.text.device)
    repeats = (text[:, 1:] == text[:, :-1]) & (places[1:] < batch.length[:, None])
    needed: Tensor = batch.length + repeats.sum(1)
    return needed <= columns_of(batch.width)


def ctc_losses(logits: Tensor, batch: LineImages) -> Tensor:
    """Return the CTC loss of each line in nats (B,); 0 for a text that its columns cannot hold."""
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1), batch.text, columns_of(batch.width),
        batch.length, reduction="none", zero_infinity=True,
    )  # fmt: skip
    return losses * fits(batch)


def count_impossible(batch: LineImages, so_far: int) -> int:
    """Return how many texts were too long for their width, and say so at the first ones."""
    num = int((~fits(batch)).sum())
    if num and not so_far:
        first = int((~fits(batch)).nonzero()[0])
        _LOG.warning(
            "%d of %d lines of a batch have a text that is too long for their width, such as %d "
            "characters in %d pixels (%d columns): nothing is learned from these",
            num, len(batch.text), batch.length[first], batch.width[first],
            columns_of(batch.width)[first],
        )  # fmt: skip
    return so_far + num


def decoder_of(config: ReaderConfig, characters: str, kind: str) -> Decoder:
    """Return the decoder of columns that the settings choose; files are read once."""
    return GreedyDecoder() if kind == "greedy" else beam_of(config, characters)


def beam_of(config: ReaderConfig, characters: str) -> BeamDecoder:
    """Return the beam search that the settings choose."""
    return _beam(
        characters, config.beam_size, config.language_model, config.lm_weight,
        config.length_bonus, config.lexicon,
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def _beam(
    characters: str, beam_size: int, language_model: str | None, lm_weight: float,
    length_bonus: float, lexicon: str | None,
) -> BeamDecoder:  # fmt: skip
    return beam_decoder(
        characters, beam_size=beam_size, language_model=language_model, lm_weight=lm_weight,
        length_bonus=length_bonus, lexicon=lexicon,
    )  # fmt: skip


def rows_by_character(
    theirs: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    names: Sequence[str],
    known: str,
    characters: str,
) -> dict[str, Tensor]:
    """Fine-tuning with other characters: return weights in which each row is that of its character.

    Args:
        theirs: weights of the earlier run, by name.
        own: this model's, as drawn: the rows of new characters stay so.
        names: of the weights (V, …) with one row for each code; row 0 is of the blank.
        known: the earlier run's characters.
        characters: this run's.
    """
    rows = [0, *(known.find(character) + 1 for character in characters)]  # 0 after the first: new
    new = np.flatnonzero(np.array(rows[1:]) == 0) + 1
    found = dict(theirs)
    for name in names:
        if name in theirs and name in own and theirs[name].shape[1:] == own[name].shape[1:]:
            found[name] = theirs[name][rows].to(own[name])
            found[name][new] = own[name][new]
    if len(new):
        _LOG.warning(
            "init_from: %d characters are new, and begin as drawn: %s",
            len(new), "".join(characters[code - 1] for code in new),
        )  # fmt: skip
    return found


class LineReader(Agent):
    """Base class of readers of lines, whose model has `characters` and an `encoder`.

    Attributes:
        num_impossible: training texts so far that were too long for their width, for CTC.
        by_character: names of the weights that have a row for each character.
    """

    spec_type = ImageToText
    config: ReaderConfig
    model: Any
    num_impossible: int = 0
    by_character: ClassVar[tuple[str, ...]]

    def training_lines(self, batch: LineImages) -> LineImages:
        """Return a training batch: counted if a text does not fit its line, and augmented."""
        self.num_impossible = count_impossible(batch, self.num_impossible)
        if not self.config.augmentation:
            return batch
        image, width = augment_lines(batch.image, batch.width, self.config.augmentation)
        return batch._replace(image=image, width=width)

    @staticmethod
    def complete_task(task: LineTask, config: ReaderConfig) -> LineTask:
        """Return a task that has the characters of the run that `init_from` names, and its own."""
        if config.init_from is None or config.characters is not None:  # a checkpoint names all
            return task
        known = read_agent(expand_user(config.init_from)).values["config"].get("characters")
        return task.with_characters(known) if known else task

    @staticmethod
    def complete_config(config: Any, model: nn.Module) -> Any:
        """Return a config that has the characters, by which a later run finds their rows."""
        return attrs.evolve(config, characters=model.characters)

    def weights_from(self, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
        """Return another run's weights; rows of characters are those of the same characters."""
        theirs = super().weights_from(checkpoint)
        known = checkpoint.values["config"].get("characters")
        if known is None:
            return theirs
        own, names = self.model.state_dict(), list(self.by_character)
        return rows_by_character(theirs, own, names, known, self.model.characters)

    def constant_loss(self, batch: LineImages) -> float:
        """Return the CTC loss of columns that all say the same, which is what is learned first."""
        text, length, width = (torch.as_tensor(x) for x in (batch.text, batch.length, batch.width))
        return constant_ctc_loss(text, length, columns_of(width), len(self.model.characters) + 1)

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the page of errors."""
        from agents.core.inspection.transcription import transcription_errors

        return {"errors": lambda: transcription_errors(self)}

    def export_graph(self) -> "Graph":
        """Return the columns' logits of lines and their widths, of any number and width."""
        from agents.core.export import columns_graph

        return columns_graph(self.model, self.task.spec, COLUMN)

    def read(self, batch: LineImages) -> list[Reading]:
        """Return what is read in each line of a task's batch, with places and confidences.

        These are of the columns' outputs, whichever decoder has found the text.
        """

        def readings(piece: LineImages) -> list[Reading]:
            logits = self.model(piece.image, piece.width)
            rows = own_rows(logits, columns_of(piece.width))
            codes = cast("list[NDArray[np.int64]]", self.predict_batch(piece))
            return [
                alignment.read(row, text, self.model.characters, COLUMN, self.config.temperature)
                for row, text in zip(rows, codes, strict=True)
            ]

        return [line for piece in self._map_microbatches(readings, batch) for line in piece]

    def _observe_lines(
        self, batch: LineImages, rows: Sequence[NDArray[np.float64]],
        score: Callable[[], dict[str, Tensor]], written: Sequence[NDArray[np.int64]] | None = None,
        **fields: Any,
    ) -> "Observation":  # fmt: skip
        """Return an observation of columns and images, with further fields.

        Args:
            batch: of the task.
            rows: log probabilities of the codes in each column of a line (T, V).
            score: computes the scores of each line (B,).
            written: codes of which the columns are targets of attribution; None: the answers.
            fields: of the observation.
        """
        from agents.core.inspection.lines import (
            character_targets,
            columns_part,
            line_batch,
            text_answer,
        )
        from agents.core.inspection.observation import ImagePart, observe

        answers, right = self.predict_arrays(batch), self.task.targets(batch)
        table = self.task.rows(answers, batch)
        characters = self.model.characters
        part = columns_part(
            self.model.encoder.recurrent, rows, batch, characters, right, score, COLUMN
        )  # fmt: skip
        image = ImagePart(
            model=self.model, images=torch.as_tensor(batch.image), is_handwriting=True,
            answer=functools.partial(text_answer, self.read), batch_of=line_batch,
        )  # fmt: skip
        texts = [row.target for row in table]
        explained = list(answers) if written is None else list(written)
        # Of an answer that is not that of the columns, they cannot say how sure it is.
        is_own = written is None
        said = confidences_of_lines(rows, explained, characters, texts) if is_own else ()
        return observe(
            self, batch, rows=table, recurrent=(part,), image=image,
            targets=character_targets(rows, explained, _EXPLAINED), characters=("", *characters),
            short_names=[row.target or row.question for row in table],
            confidences=said, temperature=self.config.temperature, **fields,
        )  # fmt: skip
