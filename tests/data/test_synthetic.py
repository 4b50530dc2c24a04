"""Sources with known answers: the answers are right, the entropy is what it should be, the text never changes."""

import hashlib
import json
import math
import re

import numpy as np
import pytest

from atomiclm.data import AssociativeRecall, Copy, Markov, Passkey, ShuffledWindows, prepare, training_batches
from atomiclm.data.synthetic import MARK, SYMBOLS

SOURCES = [
    Markov(num_documents=40, document_bytes=60),
    Copy(num_documents=40),
    AssociativeRecall(num_documents=40),
    Passkey(num_documents=40),
]
WITH_ANSWERS = SOURCES[1:]


def answers(document):
    raw = document.text.encode()
    return [raw[first:past].decode() for first, past in document.answers]


def digest(source):
    return hashlib.sha256("\n".join(document.text for document in source.documents()).encode()).hexdigest()[:16]


def test_the_text_never_changes():
    """Written down once: another NumPy, machine or refactoring must not move anybody's data."""
    assert [digest(source) for source in SOURCES] == DIGESTS


@pytest.mark.parametrize("kind", [Markov, Copy, AssociativeRecall, Passkey])
def test_another_seed_is_another_text_and_another_stamp(kind):
    assert len({digest(kind(num_documents=4, seed=seed)) for seed in (0, 1, -1, 2**70)}) == 4
    assert kind(seed=3).stamp() == kind(seed=3).stamp()
    assert len({kind(seed=seed).stamp() for seed in range(3)} | {kind(num_documents=7).stamp()}) == 4
    assert kind(num_documents=9).faults() == []


def test_the_first_documents_do_not_depend_on_how_many_there_are():
    for kind in (Markov, Copy, AssociativeRecall, Passkey):
        few, many = (list(kind(num_documents=number).documents()) for number in (3, 300))
        assert few == many[:3]


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_two_symbols_have_the_entropy_of_the_closed_form(sharpness):
    """P = [[1 - p, p], [q, 1 - q]] has pi = (q, p) / (p + q)."""
    source = Markov(num_symbols=2, sharpness=sharpness, seed=7)
    p, q = source.transition[0, 1], source.transition[1, 0]
    np.testing.assert_allclose(source.stationary, [q / (p + q), p / (p + q)], rtol=1e-12)

    def binary(x):
        return -x * math.log2(x) - (1 - x) * math.log2(1 - x)

    assert source.entropy_bits == pytest.approx((q * binary(p) + p * binary(q)) / (p + q), rel=1e-12)
    assert source.anchors() == {"entropy": source.entropy_bits}


@pytest.mark.parametrize(("order", "num_symbols"), [(1, 20), (2, 5), (3, 4)])
def test_the_entropy_is_what_the_text_costs_the_one_who_knows_the_chain(order, num_symbols):
    """And contexts are as often as the stationary distribution says, at the start of documents as anywhere."""
    source = Markov(order=order, num_symbols=num_symbols, num_documents=3000, document_bytes=100)
    place = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    rows = np.array([[place[symbol] for symbol in document.text] for document in source.documents()])
    assert rows.shape == (3000, 100)
    assert rows.max() < num_symbols
    contexts = np.zeros((3000, 100 - order + 1), dtype=np.int64)
    for shift in range(order):
        contexts = contexts * num_symbols + rows[:, shift : shift + contexts.shape[1]]
    costs = -np.log2(source.transition[contexts[:, :-1], rows[:, order:]]).mean(axis=1)  # of each document
    assert costs.mean() == pytest.approx(source.entropy_bits, abs=4 * costs.std() / math.sqrt(3000))
    for column in (0, -1):
        counts = np.bincount(contexts[:, column], minlength=num_symbols**order)
        spread = np.sqrt(3000 * source.stationary * (1 - source.stationary)) + 1
        assert (np.abs(counts - 3000 * source.stationary) < 5 * spread).all()
    step = np.zeros((num_symbols**order,) * 2)  # the definition, by going on and on
    for context in range(num_symbols**order):
        for symbol in range(num_symbols):
            step[context, (context * num_symbols + symbol) % len(step)] = source.transition[context, symbol]
    np.testing.assert_allclose(np.linalg.matrix_power(step, 5000)[0], source.stationary, rtol=1e-8)


def test_sharpness_makes_the_next_symbol_certain():
    bits = [Markov(sharpness=sharpness).entropy_bits for sharpness in (0.01, 0.5, 1.0, 2.0, 4.0)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] == pytest.approx(4.0, abs=0.001)


def test_copies_are_copies():
    documents = list(Copy(min_length=3, max_length=6, num_symbols=5, num_documents=2000).documents())
    lengths = []
    for document in documents:
        word, again = document.text.split(MARK)
        assert answers(document) == [again] == [word]
        assert set(word) <= set(SYMBOLS[:5])
        lengths.append(len(word))
    counts = np.bincount(lengths, minlength=7)[3:]
    assert counts.sum() == 2000
    assert (np.abs(counts - 500) < 100).all()


@pytest.mark.parametrize("num_queries", [None, 2])
def test_recalled_values_are_those_of_the_keys(num_queries):
    source = AssociativeRecall(num_pairs=5, num_queries=num_queries, num_keys=9, num_values=7, num_documents=2000)
    asked, values = [], []
    for document in source.documents():
        said, queries = document.text.split(MARK)
        pairs = dict(zip(said[::2], said[1::2], strict=True))
        assert len(pairs) == 5  # keys differ
        assert set(pairs) <= set(SYMBOLS[:9])
        assert set(pairs.values()) <= set(SYMBOLS[9:16])
        assert answers(document) == [pairs[key] for key in queries[::2]] == list(queries[1::2])
        assert len(set(queries[::2])) == len(queries) // 2 == (num_queries or 5)
        asked += [list(pairs).index(key) for key in queries[::2]]
        values += list(pairs.values())
    for counts in (np.bincount(asked, minlength=5), np.unique(values, return_counts=True)[1]):
        assert np.abs(counts / counts.mean() - 1).max() < 0.12  # all places and all values alike


def test_the_pass_key_is_the_one_that_was_said_and_stands_anywhere():
    depths = []
    for document in Passkey(num_digits=4, filler_sentences=6, num_documents=700).documents():
        (said,) = re.findall(r"The pass key is #(\d{4})\. ", document.text)
        assert answers(document) == [said]
        assert document.text.endswith(f"? It is #{said}.")
        depths.append(document.text[: document.text.index("The pass key")].count("."))
    counts = np.bincount(depths)
    assert len(counts) == 7
    assert (np.abs(counts - 100) < 50).all()


@pytest.mark.parametrize("source", WITH_ANSWERS, ids=lambda source: type(source).__name__)
def test_answers_reach_the_shards(source, byte_tokenizer, tmp_path):
    corpus = prepare(source, byte_tokenizer(), tmp_path)
    documents = {document.text: "".join(answers(document)) for document in source.documents()}
    for shard in (corpus.train, corpus.validation):
        starts = np.flatnonzero(shard.tokens == shard.separator)
        assert len(starts) == shard.num_documents
        for start, stop in zip(starts, [*starts[1:], shard.num_tokens], strict=True):
            stretch, flags = shard.tokens[start + 1 : stop], shard.answers[start + 1 : stop]
            assert bytes(stretch[flags].tolist()).decode() == documents[bytes(stretch.tolist()).decode()]
            assert not shard.answers[start]
    again = prepare(source, byte_tokenizer(), tmp_path)
    np.testing.assert_array_equal(again.train.answers, corpus.train.answers)
    assert corpus.parts[0].train.answers is not None
    assert json.dumps(corpus.manifest)


def test_answers_only_decides_what_training_counts(byte_tokenizer, tmp_path):
    masks = []
    for answers_only in (True, False):
        corpus = prepare(Copy(num_documents=60, answers_only=answers_only), byte_tokenizer(), tmp_path)
        batch = training_batches(corpus, 40, ShuffledWindows(0)).batch(0, 4)
        masks.append(batch.mask)
    assert masks[1] is None
    assert 0.3 < masks[0].mean() < 0.6
    assert len(list((tmp_path / "shards").glob("*/train.bin"))) == 1  # the text is the same


def test_other_answers_make_another_corpus(byte_tokenizer, tmp_path):
    class FirstSymbol(Copy):
        def document(self, draws):
            text, ((first, _),) = super().document(draws)
            return text, ((first, first + 1),)

    FirstSymbol.__name__ = "Copy"  # by which it draws: the text is the same
    corpora = [prepare(kind(num_documents=60), byte_tokenizer(), tmp_path) for kind in (Copy, FirstSymbol)]
    assert corpora[0].manifest["validation_sha256"] == corpora[1].manifest["validation_sha256"]
    assert corpora[0].folder != corpora[1].folder


def test_a_token_that_joins_an_answer_with_other_text_is_refused(tmp_path):
    from atomiclm.tokenizer import BasicTokenizer

    def tokenizer(vocab_size, pattern):
        return BasicTokenizer(vocab_size=vocab_size, pattern=pattern, special_tokens=["<|endoftext|>"])

    with pytest.raises(ValueError, match=r"tokenizer: a token joins part of an answer .* use tokenizer=bytes"):
        prepare(AssociativeRecall(num_documents=300), tokenizer(400, "none"), tmp_path)
    for pattern in ("gpt4", "gpt2"):
        corpus = prepare(Passkey(num_documents=300), tokenizer(500, pattern), tmp_path)
        found = corpus.tokenizer.decode_bytes(corpus.train.tokens[corpus.train.answers].tolist())
        assert len(found) == 5 * corpus.train.num_documents
        assert found.isdigit()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Markov(order=3, num_symbols=16), r"order: 3 with 16 symbols makes 4096 contexts"),
        (lambda: Markov(order=0), "order: 0"),
        (lambda: Markov(num_symbols=1), "num_symbols: 1 is not between 2 and"),
        (lambda: Markov(sharpness=0.0), r"sharpness: 0\.0 is not above 0"),
        (
            lambda: Markov(order=2, num_symbols=4, document_bytes=2),
            "document_bytes: 2 bytes are all context, order is 2",
        ),
        (lambda: Markov(num_documents=1), "num_documents: 1 cannot be split"),
        (lambda: Copy(min_length=5, max_length=4), "min_length: 5 is not between 1 and max_length=4"),
        (lambda: AssociativeRecall(num_pairs=9, num_keys=8), "num_pairs: 9 is not between 1 and num_keys=8"),
        (lambda: AssociativeRecall(num_queries=9), "num_queries: 9 is not between 1 and num_pairs=8"),
        (lambda: AssociativeRecall(num_values=1), "num_values: 1 leaves nothing"),
        (lambda: AssociativeRecall(num_keys=60, num_values=60), r"num_keys \+ num_values: 120 is not between"),
        (lambda: Passkey(num_digits=0), "num_digits: 0"),
        (lambda: Passkey(filler_sentences=-1), "filler_sentences: -1 is negative"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


DIGESTS = ["ad91207546d55616", "e34b4eb70909b163", "f8f7dda182ede433", "1ef907ae63395466"]
