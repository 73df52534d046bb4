"""Text: where batches go on, what is withheld, what probes are told, and what counting reaches."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tasks
from tasks.core.settings import ConfigError, SourcedValue, build, to_values
from tasks.core.task import TextChunks
from tasks.text import UNKNOWN, Text
from tasks.text_corpus import Corpus
from tasks.text_ngrams import ngram_bits
from tasks.text_quantities import text_properties


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Return a file of 20,000 random letters and newlines."""
    letters = np.array(list("abcdefgh \n"))
    path = tmp_path / "drawn.txt"
    path.write_text("".join(np.random.default_rng(0).choice(letters, 20_000)))
    return path


def small(path: Path, **settings: object) -> Text:
    """Return a task on a small file."""
    return Text(path=str(path), **{"block_size": 16, "length": 24, **settings})


def texts_of(task: Text, batch: TextChunks) -> list[str]:
    """Return each row with the character that comes after it."""
    whole = np.concatenate([batch.text, batch.targets[:, -1:]], axis=1)
    return task.decode(whole)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 5000])
def test_each_row_goes_on_where_it_ended(drawn: Path, batch_size: int) -> None:
    """Row i of a batch continues row i of the batch before, but where it says that it begins."""
    task = small(drawn)
    batches = list(task.batches("train", batch_size, 0, 3))
    assert len(batches) == -(-task.num_samples_in("train") // batch_size)
    assert batches[0].reset_state.all()
    restarts = 0
    for before, after in itertools.pairwise(batches):
        rows = len(after.text)
        goes_on = before.targets[:rows, -1] == after.text[:, 0]
        assert (goes_on | after.reset_state).all()
        restarts += int(after.reset_state.sum())
    assert restarts <= 1  # where the circle closes
    assert all(len(batch.text) == min(batch_size, len(batches[0].text)) for batch in batches[:-1])


def test_an_epoch_reads_each_chunk_once(drawn: Path) -> None:
    """The chunks of an epoch are apart from each other, lie in the training part, and fill it."""
    task, text = small(drawn), drawn.read_text()
    found = [t for batch in task.batches("train", 9, 1, 2) for t in texts_of(task, batch)]
    assert len(found) == len(set(found)) == task.num_samples_in("train")
    places = sorted(text.index(t) for t in found)
    assert places[-1] + 17 <= 18_000
    assert set(np.diff(places)) == {16}
    assert 18_000 - 16 * len(found) < 3 * 16


def test_following_is_the_next_character(drawn: Path) -> None:
    """Inside a row the answer at a place is the character at the next one."""
    for batch in (small(drawn).samples("test", 50), next(small(drawn).batches("train", 5, 0, 0))):
        np.testing.assert_array_equal(batch.text[:, 1:], batch.targets[:, :-1])


def test_a_sample_stands_nowhere_earlier(tmp_path: Path) -> None:
    """A text that the corpus has had before is no sample, in its own split either."""
    rng = np.random.default_rng(1)
    lines = ["".join(rng.choice(list("abcdef"), 30)) + "\n" for _ in range(400)]
    licence = "all rights are reserved by nobody at all, and this is the licence of all files\n" * 3
    path = tmp_path / "many.txt"
    path.write_text("".join(licence + "".join(lines[i : i + 4]) for i in range(0, 400, 4)))
    task, text = small(path, test=0.3, validation=0.3), path.read_text()
    parts = {"train": (0, 0.4), "validation": (0.4, 0.7), "test": (0.7, 1.0)}
    for split, (low, high) in parts.items():
        found = task.decode(task.samples(split, 1000).text)
        assert len(found) > 20
        for sample in found:
            assert low * len(text) - 1 <= text.index(sample) <= high * len(text)
        assert split == "train" or not any(sample in licence for sample in found)


def test_a_text_that_repeats_itself_has_no_samples(tmp_path: Path) -> None:
    """Where everything withheld was read in training, asking for samples is an error."""
    path = tmp_path / "same.txt"
    path.write_text("the same again\n" * 500)
    with pytest.raises(ConfigError, match="occurs in it earlier too; accepted: a corpus that does"):
        small(path).samples("test", 5)


def test_a_text_that_repeats_itself_cannot_be_learned(tmp_path: Path) -> None:
    """A corpus without a sample to test by is refused before the first batch, not at the end."""
    path = tmp_path / "same.txt"
    path.write_text("abcd" * 5000)
    task = small(path)  # its settings can still be printed
    with pytest.raises(ConfigError, match=r"every validation text of 24 .* occurs in it"):
        next(task.batches("train", 4, 0, 0))


def test_a_nul_is_a_character(tmp_path: Path) -> None:
    """A corpus with NUL is decoded with it, shows it by a sign, and has its quantities."""
    path = tmp_path / "zeros.txt"
    letters = np.random.default_rng(0).choice(list("ab(\0"), 4000)
    path.write_text("".join(character or "\0" for character in letters))
    task = small(path)
    assert task.characters == "\0(ab"
    batch = task.samples("test", 20)
    texts = task.decode(batch.text)
    assert all(len(text) == 24 and text in path.read_text() for text in texts)
    rows = task.rows(batch.targets, batch)
    assert [row.question for row in rows] == [text.replace("\0", "∅") for text in texts]
    np.testing.assert_array_equal(task.encode([row.question for row in rows]).text, batch.text)
    assert task.probe_targets(batch).encoder["bracket depth"].shape == batch.text.shape


def test_questions_are_encoded_to_the_same_samples() -> None:
    """What rows show as questions is read back with the same text, answers and quantities."""
    task = tasks.make("text").for_display()
    batch = task.samples("test", 200)
    again = task.encode([row.question for row in task.rows(batch[1], batch)])
    np.testing.assert_array_equal(batch.text, again.text)
    np.testing.assert_array_equal(batch.targets, again.targets)
    for name, values in task.probe_targets(batch).encoder.items():
        np.testing.assert_array_equal(values, task.probe_targets(again).encoder[name])


def test_newlines_are_shown_and_typed() -> None:
    """A question is one line; its sign for a newline is one when it is typed, and so is a real."""
    task = Text(characters="\n⇥\tab", digest="unread")
    batch = task.encode(["a⏎b", "a\nb", "\t⇥b"])
    assert task.decode(batch.text) == ["a\nb", "a\nb", "\t⇥b"]
    shown = [row.question for row in task.rows(batch.text, batch)]
    assert shown == ["a⏎b", "a⏎b", "\t⇥b"]  # ⇥ is a character of its own here


def test_score_leaves_out_what_is_unknown() -> None:
    """Accuracy is the share of right next characters among those that are known."""
    task = Text(characters="ab", digest="unread")
    following = np.array([[0, 1, 1, UNKNOWN]])
    batch = TextChunks(np.array([[0, 0, 1, 1]]), following, np.ones(1, bool))
    assert task.score(np.array([[0, 1, 0, 0]]), batch) == {"accuracy": 2 / 3}
    assert task.rows(np.array([[0, 1, 0, 0]]), batch)[0][:4] == ("aabb", "a", "", False)


def test_a_task_is_remade_without_its_corpus(drawn: Path) -> None:
    """Plain values give the same task when the file is gone; only its texts are missing."""
    task = small(drawn)
    drawn.unlink()
    values = {name: SourcedValue(value, "test") for name, value in to_values(task).items()}
    again = build(Text, values)
    assert again == task
    assert again.encode(["abc"]).text.tolist() == task.encode(["abc"]).text.tolist()
    assert again.encode(["a" * 24]).targets[0, -1] == UNKNOWN
    with pytest.raises(ConfigError, match=r"drawn\.txt cannot be read: No such file"):
        again.samples("test", 5)


def test_a_changed_corpus_is_found(drawn: Path) -> None:
    """A task whose corpus has other content than when it was made says so."""
    task = small(drawn)
    drawn.write_text(drawn.read_text()[::-1])
    with pytest.raises(ConfigError, match=r"digest: .*drawn\.txt now has the digest 'sha256-"):
        next(task.batches("train", 4, 0, 0))


def test_another_corpus_must_have_the_same_characters(drawn: Path) -> None:
    """A corpus with a character that was not named is refused, with the character's place."""
    task = small(drawn, characters="abcdefg \n")
    text = drawn.read_text()
    line, place = text.count("\n", 0, text.index("h")) + 1, text.index("h") + 1
    with pytest.raises(ConfigError, match=rf"has 'h' in line {line} \(character {place}\)"):
        task.samples("test", 5)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"", {}, r"path: .* is empty"),
        (b"caf\xe9" * 99, {}, r"path: .* is not UTF-8 text: byte 3 does not fit"),
        (b"abc" * 50, {}, r"path: leaves 7 characters for validation, of 150; accepted: 32 or"),
        (b"abc" * 500, {"length": 80}, r"leaves 75 characters for validation.*accepted: 81 or"),
        (b"abc" * 500, {"characters": "aba"}, r"characters: 'aba' has a character twice"),
    ],
)
def test_a_bad_corpus_is_refused(
    tmp_path: Path, content: bytes, settings: dict[str, object], message: str
) -> None:
    """An unusable file or setting is an error that says what is wrong with it."""
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        small(path, **settings)


def test_a_missing_corpus_names_the_option_that_named_it() -> None:
    """A path that does not exist is an error at the place where it was written."""
    given = {"path": SourcedValue("/nowhere.txt", "corpus.yaml, line 3")}
    with pytest.raises(
        ConfigError, match=r"corpus\.yaml, line 3: path: /nowhere.txt cannot be read"
    ):
        build(Text, given)


def test_a_corpus_is_looked_for_where_its_path_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the home folder; of a relative path an error names the folder it was looked for in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    letters = np.random.default_rng(0).choice(list("abcdef"), 4000)
    (tmp_path / "a.txt").write_text("".join(letters))
    digests = {small(Path(path)).digest for path in ("~/a.txt", "a.txt", tmp_path / "a.txt")}
    assert len(digests) == 1
    with pytest.raises(ConfigError, match=rf"b\.txt cannot be read: .* in {tmp_path};"):
        Text(path="b.txt")
    for strange in ("~nobody-here/a.txt", "a\0b", "x" * 5000):
        with pytest.raises(ConfigError, match=r"path: .* cannot be read: "):
            Text(path=strange)


def test_large_sets_of_characters_are_cut_in_errors(tmp_path: Path) -> None:
    """Of thousands of characters an error lists a hundred, and says how many there are."""
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    path = tmp_path / "many.txt"
    path.write_text(many)
    wanted = r"… \(3,000 in all\)"
    task = small(path)
    (path.parent / "more.txt").write_text(many + "a")
    calls: tuple[Callable[[], object], ...] = (
        lambda: task.encode(["a"]),
        lambda: small(path.parent / "more.txt", characters=many).samples("test", 1),
        lambda: Text(characters=many[:-1] + many[0], digest="unread"),
    )
    for call in calls:
        with pytest.raises(ConfigError, match=wanted) as caught:
            call()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "is not text; accepted: text of one"),
        ("ab\u20acc", "'€', character 3, is not in the character set"),
        ("x" * 500 + "é", "input '" + "x" * 60 + "…'"),
    ],
)
def test_what_cannot_be_read_is_refused(typed: str, message: str) -> None:
    """Typed text with an unknown character is an error that names it and its place."""
    with pytest.raises(ConfigError, match=message):
        tasks.make("text").encode([typed])


def test_what_a_sample_cannot_tell_is_left_out(tmp_path: Path) -> None:
    """Of a string that began before a sample nothing is said, nor of a line before its end."""
    rng = np.random.default_rng(0)
    words = "".join(rng.choice(list("abcdefg\n"), 8000))
    path = tmp_path / "one.py"
    path.write_text('x = """' + words + '"""\n')
    task = small(path)
    batch = task.samples("validation", 10)
    reading = task.probe_targets(batch).encoder
    assert (reading["inside quotes"] == -1).all()
    assert (reading["bracket depth"] == 0).all()
    for text, counted in zip(task.decode(batch.text), reading["line position"], strict=True):
        begin = path.read_text().index(text)
        if path.read_text()[begin - 1] == "\n":
            assert counted[0] == 1
        else:
            first = text.find("\n") if "\n" in text else len(text)
            assert np.isnan(counted[:first]).all()
            np.testing.assert_array_equal(
                counted[first:], text_properties(text)["line position"][first:]
            )


def test_typed_text_counts_from_its_beginning() -> None:
    """Of a text that is no sample everything is known, the newlines in front of it included."""
    task = Text(characters="\n 'ab", digest="unread")
    typed = task.probe_targets(task.encode(["aba", " 'a'"])).encoder
    assert typed["inside quotes"].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]
    assert typed["line position"].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]


def bits_by_hand(train: str, text: str, following: str) -> float:
    """Return the bits per character of contexts of one character, straight from the formula."""
    alphabet = sorted(set(train))

    def smoothed(
        counts: dict[str, int], lower: dict[str, float], all_counts: list[int]
    ) -> dict[str, float]:
        once, twice = all_counts.count(1), all_counts.count(2)
        discount = once / max(1, once + 2 * twice) or 0.5
        total = sum(counts.values())
        return {
            c: (max(counts.get(c, 0) - discount, 0) + discount * len(counts) * lower[c]) / total
            for c in alphabet
        }

    pairs: dict[str, dict[str, int]] = {}
    for a, b in itertools.pairwise(train):
        pairs.setdefault(a, {}).setdefault(b, 0)
        pairs[a][b] += 1
    kinds = {c: sum(c in after for after in pairs.values()) for c in alphabet}
    kinds = {c: n for c, n in kinds.items() if n}
    uniform = dict.fromkeys(alphabet, 1 / len(alphabet))
    lower = smoothed(kinds, uniform, list(kinds.values()))
    every = [n for after in pairs.values() for n in after.values()]
    odds = [smoothed(pairs[a], lower, every)[b] for a, b in zip(text, following, strict=True)]
    return float(-np.log2(odds).mean())


def test_ngrams_follow_the_formula() -> None:
    """Of one character of context, the bits are those of Kneser and Ney's formula by hand."""
    train, text, following = "abracadabra abba cab", "abcab", "bcabr"
    known = sorted(set(train))

    def coded(s: str) -> np.ndarray:
        return np.array([known.index(c) for c in s])

    bits = ngram_bits(coded(train), coded(text)[None], coded(following)[None], len(known), 1)
    assert bits[1] == pytest.approx(bits_by_hand(train, text, following))


def test_ngrams_are_a_distribution() -> None:
    """The odds of all characters after a context sum to one, for every length of context."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 5, 300)
    text = rng.integers(0, 5, (1, 6))
    total = np.zeros(5)
    for last in range(5):
        following = np.append(text[:, 1:], [[last]], axis=1)
        before = np.append(text[:, 1:], [[0]], axis=1)
        bits = np.array(ngram_bits(train, text, following, 5, 4)) * 6
        base = np.array(ngram_bits(train, text, before, 5, 4)) * 6
        total += 2.0 ** -(bits - base)
    # Σ p(c) / p(0) = 1 / p(0): the same number from one place alone.
    shorter = np.array(ngram_bits(train, text[:, :5], text[:, 1:], 5, 4)) * 5
    zero = np.append(text[:, 1:], [[0]], axis=1)
    p_zero = 2.0 ** -(np.array(ngram_bits(train, text, zero, 5, 4)) * 6 - shorter)
    np.testing.assert_allclose(total * p_zero, 1.0, rtol=1e-9)


def test_longer_contexts_predict_python_better() -> None:
    """On the library each longer context saves bits, from the entropy of single characters on."""
    bits = tasks.make("text", num_characters=600_000).ngram_bits("validation", longest=4)
    assert len(bits) == 5
    assert all(a > b for a, b in itertools.pairwise(bits))
    assert 4.0 < bits[0] < 5.0
    assert bits[4] < 2.6


def test_a_byte_order_mark_is_no_character(drawn: Path, tmp_path: Path) -> None:
    """A corpus that begins with one is the corpus without it; one inside a text stays."""
    plain = drawn.read_text()
    marked = tmp_path / "marked.txt"
    for text in (plain, f"{plain}\ufeff"):
        drawn.write_text(text, encoding="utf-8")
        marked.write_text(f"\ufeff{text}", encoding="utf-8")
        assert small(marked, num_characters=30_000).digest == small(drawn).digest
        assert small(marked).characters == small(drawn).characters
    earlier = Corpus(f"\ufeff{text}")  # as version 0.4 read it
    task = small(marked, characters=earlier.characters, digest=earlier.digest)
    assert task.samples("test", 3).text.shape == (3, 24)
