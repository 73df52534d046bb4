"""What readers of lines share: the encoder, the CTC loss, decoders, fine-tuning, observation.

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
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from agents.configs.readers import SIZES, ReaderConfig
from agents.core.agent import Agent
from agents.core.config import ConfigError
from agents.core.decoding import alignment
from agents.core.decoding.alignment import Reading, align
from agents.core.decoding.ctc import columns_needed, greedy
from agents.core.decoding.decoders import (
    BeamDecoder,
    Decoder,
    GreedyDecoder,
    beam_decoder,
    own_rows,
)
from agents.core.layers import recurrent
from tasks.handwriting.lines import ImageToText, LineImages

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation, RecurrentPart, Target
    from agents.core.runs.checkpoint import Checkpoint

COLUMN = 4  # pixels that a column covers
_POOLS = ((2, 2), (2, 2), (2, 1), (2, 1))  # rows and columns that become one
NUM_OBSERVED = 200  # lines of the views, at most
_EXPLAINED = 4  # first characters of a line that are targets of attribution
_LEAST_HEIGHT = 16  # pixels, of which the pools leave one
_LOG = logging.getLogger(__name__)


class Block(nn.Module):
    """Convolution 3×3, batch normalisation, ReLU, maximum over a pool."""

    def __init__(self, num_in: int, num_out: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(num_out)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(pool)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, D, H / p, W / q) of maps (B, C, H, W)."""
        pooled: Tensor = self.pool(self.relu(self.norm(self.conv(maps))))
        return pooled


class LineEncoder(nn.Module):
    """Four convolutional blocks, the maximum over the height, and a BiLSTM over the columns.

    As in Puigcerver (2017) and Retsinas et al. (2022, 2404.11339), small. What is beyond a line's
    own width is set to 0 after each block, and the LSTM ends with the line: so a line reads the
    same alone and beside longer ones. In training the statistics of the batch normalisation are of
    the padding too, which is little where lines of similar width are batched.
    """

    def __init__(self, size: str, dropout: float) -> None:
        super().__init__()
        channels, units, num_layers = SIZES[size]
        self.blocks = nn.ModuleList(
            Block(num_in, num_out, pool)
            for num_in, num_out, pool in zip((1, *channels), channels, _POOLS, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.recurrent = recurrent("lstm", channels[-1], units, num_layers, dropout, True)
        self.num_maps, self.num_outputs = channels[-1], 2 * units

    def features(self, image: Tensor, width: Tensor) -> Tensor:
        """Return the columns' feature maps (B, T, C), T = W / 4, of images (B, 1, H, W)."""
        maps = F.pad(image, (0, max(0, COLUMN - image.shape[-1])))
        maps = maps.contiguous(memory_format=torch.channels_last)
        own = width.clamp(min=COLUMN)
        for block, (_, across) in zip(self.blocks, _POOLS, strict=True):
            maps, own = block(maps), own // across
            is_own = torch.arange(maps.shape[-1], device=maps.device) < own[:, None]
            maps = maps * is_own[:, None, None].to(maps.dtype)
        return maps.amax(2).transpose(1, 2)

    def contexts(self, features: Tensor, num_columns: Tensor) -> Tensor:
        """Return what the BiLSTM makes of the columns (B, T, 2 U); 0 beyond a line's own."""
        if self.training:
            trained: Tensor = self.dropout(self._in_training(self.dropout(features), num_columns))
            return trained
        packed = pack_padded_sequence(
            features, num_columns.cpu(), batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=features.shape[1]
        )
        return output

    def _in_training(self, columns: Tensor, num_columns: Tensor) -> Tensor:
        """Return what the packed call does; what is beyond a line's own columns means nothing.

        The gradient of torch's packed LSTM takes time by the square of the length. Here each
        direction reads all lines at once, the second one turned round within their own columns.
        """
        steps = torch.arange(columns.shape[1], device=columns.device)
        own = num_columns[:, None]
        turned = torch.where(steps < own, own - 1 - steps, steps)[..., None]
        rnn = self.recurrent
        zeros = columns.new_zeros(1, len(columns), rnn.hidden_size)
        for layer in range(rnn.num_layers):
            directions = []
            for end in ("", "_reverse"):
                kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weights = [getattr(rnn, f"{kind}_l{layer}{end}") for kind in kinds]
                read = columns.gather(1, turned.expand_as(columns)) if end else columns
                output = torch.lstm(read, (zeros, zeros), weights, True, 1, 0.0, True, False, True)[
                    0
                ]
                directions.append(output.gather(1, turned.expand_as(output)) if end else output)
            columns = torch.cat(directions, -1)
            if layer + 1 < rnn.num_layers:
                columns = F.dropout(columns, rnn.dropout)
        return columns


def columns_of(width: Tensor) -> Tensor:
    """Return how many columns lines of a width in pixels have (B,); at least 1."""
    return (width // COLUMN).clamp(min=1)


def own_width(image: Tensor, width: Tensor | None) -> Tensor:
    """Return the width of each line (B,): that of the images where none is given."""
    if width is not None:
        return width
    return torch.full((len(image),), image.shape[-1], device=image.device)


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


def written_columns(
    rows: Sequence[NDArray[np.float64]], texts: Sequence[NDArray[np.integer]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the code that each column belongs to (N, T), and its number in the text; -1: none.

    Where a text does not fit its columns, the best path's is aligned in its place. A column between
    two characters belongs to the nearer one.
    """
    longest = max((len(row) for row in rows), default=0)
    codes = np.full((len(rows), longest), -1)
    numbers = codes.copy()
    for line, (row, text) in enumerate(zip(rows, texts, strict=True)):
        chosen = np.asarray(text, np.int64)
        if columns_needed(chosen) > len(row):
            chosen = greedy(torch.as_tensor(row)[None], torch.tensor([len(row)]))[0].numpy()
        if not len(chosen):
            continue
        middles = align(row, chosen)[0].mean(axis=1)
        nearest = np.abs(np.arange(len(row))[:, None] + 0.5 - middles).argmin(axis=1)
        codes[line, : len(row)], numbers[line, : len(row)] = chosen[nearest], nearest
    return codes, numbers


def columns_part(
    layer: nn.RNNBase,
    rows: Sequence[NDArray[np.float64]],
    batch: LineImages,
    characters: str,
    texts: Sequence[NDArray[np.integer]],
    score: Any,
) -> "RecurrentPart":
    """Return the BiLSTM over the columns: what stands in each, and what is written there.

    Of each column it is known which character stands there, the how-manieth of the line it is, and
    how much ink there is.
    """
    from agents.core.inspection.observation import RecurrentPart

    codes, numbers = written_columns(rows, texts)
    symbols = np.array(["", *characters])
    best = np.zeros_like(codes)
    for line, row in enumerate(rows):
        best[line, : len(row)] = row.argmax(axis=1)
    image = np.asarray(batch.image)[:, 0]
    num = codes.shape[1]
    ink = image[..., : num * COLUMN].reshape(len(image), -1, num, COLUMN).mean(axis=(1, 3))
    quantities = {
        "character": codes,
        "place in line": numbers,
        "ink": np.where(codes >= 0, ink, np.nan),
    }
    reads, writes = symbols[np.maximum(codes, 0)], symbols[best]
    return RecurrentPart("columns", layer, reads, writes, quantities, "", score)


def character_targets(
    rows: Sequence[NDArray[np.float64]], texts: Sequence[NDArray[np.integer]], num: int
) -> "dict[str, Target]":
    """Return targets: ln p of the first written characters, each in the column where it is written.

    Of a line with fewer characters it is the blank's in its last column: that nothing follows.
    """

    def target(place: int) -> "Target":
        def score(output: Tensor, sample: int) -> Tensor:
            codes, row = texts[sample], rows[sample]
            if place >= len(codes):
                return output.log_softmax(-1)[:, len(row) - 1, 0]
            begin, end = spans[sample][place]
            column = begin + int(row[begin:end, codes[place]].argmax())
            return output.log_softmax(-1)[:, column, int(codes[place])]

        return score

    spans = [align(row, codes)[0] for row, codes in zip(rows, texts, strict=True)]
    return {f"character {place + 1}": target(place) for place in range(num)}


class LineReader(Agent):
    """Base class of readers of lines, whose model has `characters` and an `encoder`.

    Attributes:
        num_impossible: training texts so far that were too long for their width, for CTC.
        by_character: names of the weights that have a row for each character.
    """

    spec_type = ImageToText
    model: Any
    num_impossible: int = 0
    by_character: ClassVar[tuple[str, ...]]

    @staticmethod
    def complete_config(config: Any, model: nn.Module) -> Any:
        """Return a config that has the characters, by which a later run finds their rows."""
        return attrs.evolve(config, characters=model.characters)

    def weights_from(self, checkpoint: "Checkpoint") -> Mapping[str, Tensor]:
        """Return another run's weights; rows of characters are those of the same characters."""
        theirs = super().weights_from(checkpoint)
        known = checkpoint.values["config"].get("characters")
        if known is None:
            return theirs
        own, names = self.model.state_dict(), list(self.by_character)
        return rows_by_character(theirs, own, names, known, self.model.characters)

    def read(self, batch: LineImages) -> list[Reading]:
        """Return what is read in each line of a task's batch, with places and confidences.

        These are of the columns' outputs, whichever decoder has found the text.
        """

        def readings(piece: LineImages) -> list[Reading]:
            logits = self.model(piece.image, piece.width)
            rows = own_rows(logits, columns_of(piece.width))
            codes = cast("list[NDArray[np.int64]]", self.predict_batch(piece))
            return [
                alignment.read(row, text, self.model.characters, COLUMN)
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
        from agents.core.inspection.observation import ImagePart, observe

        answers, right = self.predict_arrays(batch), self.task.targets(batch)
        table = self.task.rows(answers, batch)
        characters = self.model.characters
        part = columns_part(self.model.encoder.recurrent, rows, batch, characters, right, score)
        image = ImagePart(
            model=self.model, images=torch.as_tensor(batch.image), is_handwriting=True
        )
        explained = list(answers) if written is None else list(written)
        return observe(
            self, batch, rows=table, recurrent=(part,), image=image,
            targets=character_targets(rows, explained, _EXPLAINED), characters=("", *characters),
            short_names=[row.target or row.question for row in table], **fields,
        )  # fmt: skip
