"""The baselines against a model written the slow way, against entropy, and against the programs themselves."""

import bz2
import lzma
import math
import random
import subprocess
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.evaluation import baselines as module
from atomiclm.evaluation import ngram_bits_per_byte
from atomiclm.evaluation.baselines import baselines, notes
from atomiclm.run_evaluation import RunEvaluation


def slow_witten_bell(train, validation, order):
    """Bits per byte by the recursion of the docstring, on dictionaries, one byte at a time."""
    followers = defaultdict(lambda: defaultdict(int))
    for place in range(len(train)):
        for length in range(min(order - 1, place) + 1):
            followers[train[place - length : place]][train[place]] += 1

    def probability(history, byte):
        shorter = probability(history[1:], byte) if history else 1 / 256
        if history not in followers:
            return shorter
        seen = followers[history]
        total = sum(seen.values())
        return (seen.get(byte, 0) + len(seen) * shorter) / (total + len(seen))

    stream, bits = train + validation, 0.0
    for place in range(len(train), len(stream)):
        history = stream[max(0, place - order + 1) : place]
        bits -= math.log2(probability(history, stream[place]))
    return bits / len(validation)


small = st.binary(max_size=40) | st.text(st.sampled_from("ab\n"), max_size=150).map(str.encode)


@given(train=small, validation=small.filter(bool))
@settings(deadline=None, max_examples=150)
def test_ngrams_equal_the_slow_model(train, validation):
    orders = (1, 2, 3, 5, 7)
    for order, found in zip(orders, ngram_bits_per_byte(train, validation, orders), strict=True):
        assert found == pytest.approx(slow_witten_bell(train, validation, order), rel=1e-12)


def test_ngrams_equal_the_slow_model_on_words_however_the_text_is_chunked(monkeypatch):
    generator = random.Random(0)
    words = [generator.choice(["the ", "quick ", "brown ", "fox\n", "zwölf "]) for _ in range(900)]
    train, validation = "".join(words[:700]).encode(), "".join(words[700:]).encode()
    expected = [slow_witten_bell(train, validation, order) for order in (2, 5)]
    for chunk in (3, 100, 1 << 20):
        monkeypatch.setattr(module, "COUNT_CHUNK_BYTES", chunk)
        assert ngram_bits_per_byte(train, validation, (2, 5)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_probabilities_sum_to_one():
    """Over all 256 next bytes after each of some contexts, seen and unseen ones."""
    generator = random.Random(1)
    train = bytes(generator.choice(b"abcde") for _ in range(3000))
    for history in (b"abcd", b"zzzz", b"abzz", b"zzab"):
        shares = [2 ** -ngram_bits_per_byte(train + history, bytes([byte]), (5,))[0] for byte in range(256)]
        assert sum(shares) == pytest.approx(1.0, rel=1e-9)


def test_a_markov_source_is_learned_to_its_entropy():
    """Two states that stay with probability 0.9: 0.469 bits a byte, which a bigram reaches, a unigram not."""
    flips = np.random.default_rng(0).random(400_000) < 0.1
    stream = (97 + np.cumsum(flips) % 2).astype(np.uint8).tobytes()
    unigram, bigram, five_gram = ngram_bits_per_byte(stream[:350_000], stream[350_000:], (1, 2, 5))
    entropy = -0.9 * math.log2(0.9) - 0.1 * math.log2(0.1)
    assert unigram == pytest.approx(1.0, abs=0.01)
    assert bigram == pytest.approx(entropy, abs=0.01)
    assert five_gram == pytest.approx(entropy, abs=0.01)


def test_noise_costs_eight_bits():
    raw = np.random.default_rng(0).bytes(60_000)
    worked_on = []
    found = baselines(raw[:50_000], raw[50_000:], worked_on.append)
    assert list(dict.fromkeys(worked_on)) == ["n-grams", "bz2", "xz"]
    assert found["uniform"] == 8.0
    assert found["bz2"] == pytest.approx(8, abs=0.1)
    assert found["xz"] == pytest.approx(8, abs=0.1)
    assert 8 < found["bigram"] < found["5-gram"] < 9  # they trust what they saw too much


def test_a_text_seen_before_costs_next_to_nothing():
    generator = random.Random(2)
    text = bytes(generator.choice(b"abcdefgh \n") for _ in range(20_000))
    found = baselines(text, text)
    assert found["xz"] < 0.05
    assert found["bz2"] < 2.0 < math.log2(10)
    assert found["bigram"] == pytest.approx(math.log2(10), abs=0.05)
    assert list(found) == ["uniform", "bigram", "5-gram", "bz2", "xz"]


@pytest.mark.parametrize(("name", "command"), [("bz2", ["bzip2", "-9", "-c"]), ("xz", ["xz", "-9e", "-T1", "-c"])])
def test_the_compressors_are_the_programs_of_that_name(name, command):
    text = "".join(f"{number} squared is {number * number}\n" for number in range(4000)).encode()
    train, validation = text[:80_000], text[80_000:]

    def size(raw):
        try:
            return len(subprocess.run(command, input=raw, capture_output=True, check=True).stdout)
        except FileNotFoundError:
            pytest.skip(f"{command[0]} is not installed")

    expected = 8 * (size(train + validation) - size(train)) / len(validation)
    assert baselines(train, validation)[name] == pytest.approx(
        expected, abs=8 * 8 / len(validation)
    )  # padding to 4 bytes


@pytest.mark.slow
def test_long_training_text_is_cut_to_its_end_and_that_is_said(monkeypatch):
    monkeypatch.setattr(module, "NGRAM_TRAIN_BYTES", 3 << 20)
    monkeypatch.setattr(module, "BZ2_TRAIN_BYTES", 2 << 20)
    monkeypatch.setattr(module, "XZ_TRAIN_BYTES", 1 << 20)
    assert notes(1 << 20) == []
    assert notes(2 << 20) == ["xz: given the last 1 MiB of 2 MiB of training text"]
    assert [note.split(":")[0] for note in notes(4 << 20)] == ["bigram and 5-gram", "bz2", "xz"]
    train = b"early " * 200_000 + np.random.default_rng(0).bytes(3 << 20)
    validation = b"early " * 100
    found = baselines(train, validation)
    tail = train[-(1 << 20) :]
    xz = [len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)) for raw in (tail + validation, tail)]
    assert found["xz"] == 8 * (xz[0] - xz[1]) / len(validation)
    blocks = [len(bz2.compress(raw, 9)) for raw in (train[-(2 << 20) :] + validation, train[-(2 << 20) :])]
    assert found["bz2"] == 8 * (blocks[0] - blocks[1]) / len(validation)
    assert found["5-gram"] > 6  # it has not seen the early words


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="validation must hold at least one byte"):
        baselines(b"train", b"")
    for orders in ((), (0,), (8,)):
        with pytest.raises(ValueError, match="orders must be between 1 and 7"):
            ngram_bits_per_byte(b"train", b"x", orders)


def test_saved_anchors_that_are_damaged_are_computed_anew(tmp_path):
    text = b"the cat sat on the mat, and the cat sat still. " * 50
    corpus = SimpleNamespace(folder=tmp_path, anchors={}, raw_bytes=lambda part, limit=None: text)
    said = []
    console = SimpleNamespace(say=said.append, still=lambda doing: None)
    evaluation = RunEvaluation(SimpleNamespace(anchors=True), SimpleNamespace(corpus=corpus, console=console))

    def anchors():
        evaluation.compute_anchors()
        return evaluation.anchors

    found = anchors()
    assert anchors() == found
    assert len(said) == 1
    (tmp_path / "anchors.json").write_text('{"bigram": ')
    assert anchors() == found
    assert len(said) == 2
