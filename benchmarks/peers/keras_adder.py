"""Keras' `addition_rnn` example: its model and its recipe, on the backend that is set."""

import importlib
import statistics
import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.common import Codes, Sums, add_mode, load, parser, report

NUM_CODES = 12
UNITS = 128

OneHot = NDArray[np.float32]


def build(question_length: int, answer_length: int) -> keras.Model:
    """Return the example's model: one LSTM reads, its last output is repeated for another."""
    model = keras.Sequential(
        [
            keras.Input((question_length, NUM_CODES)),
            keras.layers.LSTM(UNITS),
            keras.layers.RepeatVector(answer_length),
            keras.layers.LSTM(UNITS, return_sequences=True),
            keras.layers.Dense(NUM_CODES, activation="softmax"),
        ]
    )
    adam = keras.optimizers.Adam(learning_rate=1e-3)
    model.compile(optimizer=adam, loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def one_hot(codes: Codes) -> OneHot:
    """Return codes (samples, characters) as vectors (samples, characters, NUM_CODES)."""
    return np.eye(NUM_CODES, dtype=np.float32)[codes]


def train_epoch(model: keras.Model, question: OneHot, answer: OneHot, batch: int) -> float:
    """Train for one epoch without a progress bar and return its seconds."""
    begun = time.perf_counter()
    model.fit(question, answer, batch_size=batch, epochs=1, shuffle=True, verbose=0)
    return time.perf_counter() - begun


def exact_match(model: keras.Model, question: OneHot, answer: Codes) -> float:
    """Return the share of answers that are wholly right."""
    written = model.predict(question, batch_size=1000, verbose=0).argmax(-1)
    return float((written == answer).all(axis=1).mean())


def measure_throughput(model: keras.Model, sums: Sums, batch: int) -> dict[str, Any]:
    """Return the samples per second of the second epoch; the first compiles."""
    question, answer = one_hot(sums.train_question), one_hot(sums.train_answer)
    train_epoch(model, question, answer, batch)
    return {"samples_per_s": len(question) / train_epoch(model, question, answer, batch)}


def measure_accuracy(
    model: keras.Model, sums: Sums, batch: int, target: float, most_epochs: int
) -> dict[str, Any]:
    """Return the seconds of training until `target`, compiling taken off; None: not reached."""
    question, answer = one_hot(sums.train_question), one_hot(sums.train_answer)
    held = one_hot(sums.held_question)
    epochs: list[float] = []
    scores: list[float] = []
    while len(epochs) < most_epochs and max(scores, default=0.0) < target:
        epochs.append(train_epoch(model, question, answer, batch))
        scores.append(exact_match(model, held, sums.held_answer))
    later = statistics.median(epochs[1:] or epochs)
    compiling = max(0.0, epochs[0] - later)
    return {
        "seconds": sum(epochs) - compiling if scores[-1] >= target else None,
        "compile_seconds": compiling,
        "epochs": len(epochs),
        "epoch_seconds": later,
        "best": max(scores),
    }


def main() -> None:
    """Measure in one of the two modes and print it."""
    parse = parser("Keras' addition_rnn; KERAS_BACKEND chooses the backend", batch=32)
    add_mode(parse)
    parse.add_argument("--epochs", type=int, default=60, help="most epochs, in accuracy mode")
    options = parse.parse_args()
    keras.utils.set_random_seed(options.seed)
    sums = load(options.limit)
    model = build(sums.train_question.shape[1], sums.train_answer.shape[1])
    if options.mode == "throughput":
        found = measure_throughput(model, sums, options.batch)
    else:
        found = measure_accuracy(model, sums, options.batch, options.target, options.epochs)
    names = ["keras", keras.backend.backend()]
    report(**found, versions={n: importlib.import_module(n).__version__ for n in names})


if __name__ == "__main__":
    main()
