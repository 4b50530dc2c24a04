"""The row of a validation: every source by itself and all together, answers counted, documents apart or not."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from atomiclm.data import Batch, Copy, Markov, Mixture, ValidationWindows, answer_batches, prepare
from atomiclm.evaluation import Accuracy, Conditions, Subject, Validation, answer_accuracy, validate
from atomiclm.model import Decoder, MultiHeadAttention, NormalInit
from atomiclm.run_evaluation import validation_row
from atomiclm.tokenizer import BasicTokenizer

CPU = torch.device("cpu")
SEPARATOR = 256


def model():
    attention = partial(MultiHeadAttention, num_heads=2)
    return Decoder(257, 16, 2, 32, attention=attention, init=NormalInit(seed=3, std=0.3))


def row_of(decoder, corpus, batch_size, separate):
    return validation_row(Subject(decoder, decoder, CPU, batch_size * 32), Conditions(corpus, 32, 32, separate))


def validated(decoder, windows):
    return validate(Subject(decoder, decoder, CPU, 1).scored(windows, [1] * 256 + [0]))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    sources = {
        "chain": Markov(num_documents=40, document_bytes=70, validation_fraction=0.2),
        "copy": Copy(num_documents=120, max_length=14, validation_fraction=0.2),
    }
    tokenizer = BasicTokenizer(vocab_size=257, pattern="none", special_tokens=["<|endoftext|>"])
    return prepare(Mixture(sources, {"chain": 1.0, "copy": 1.0}), tokenizer, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("separate", [False, True])
def test_the_whole_is_all_bits_over_all_bytes(mixture, separate):
    decoder = model()
    row = row_of(decoder, mixture, 7, separate)
    sizes = {part.name: part.validation.num_bytes for part in mixture.parts}
    bits = sum(row[f"validation/bits_per_byte/{name}"] * size for name, size in sizes.items())
    assert row["validation/bits_per_byte"] == pytest.approx(bits / sum(sizes.values()), rel=1e-12)
    assert row["validation/loss"] == pytest.approx(row["validation/bits_per_byte"] * math.log(2), rel=1e-12)
    assert row["validation/accuracy"] == row["validation/accuracy/copy"]
    assert row.get("validation/separate_documents", False) is separate
    assert row["validation/protocol"].startswith("bits_per_byte-")
    assert len(row) == 7 + separate


def test_it_hangs_neither_on_the_batch_size_nor_on_the_mode(mixture):
    decoder = model().train()
    rows = [row_of(decoder, mixture, size, True) for size in (1, 5, 64)]
    assert decoder.training
    assert len({row.pop("validation/protocol") for row in rows}) == 1
    for row in rows[1:]:
        assert row == pytest.approx(rows[0], rel=1e-6)


def test_documents_apart_are_scored_as_if_each_stood_alone(mixture):
    """Each document of each window by itself, through the plain model."""
    decoder = model().eval()
    tokens = mixture.parts[1].validation.tokens
    result = validated(decoder, ValidationWindows(tokens, 32, 8, SEPARATOR))
    nats = 0.0
    for first in range(0, len(tokens) - 1, 32):
        window = tokens[first : first + 33].astype(np.int64)
        cuts = np.flatnonzero(window[:-1] == SEPARATOR)
        for begin, end in zip([0, *cuts], [*cuts, len(window) - 1], strict=True):
            if begin < end:
                with torch.no_grad():
                    scores = torch.log_softmax(decoder(torch.from_numpy(window[None, begin:end])), -1)[0]
                wanted = window[begin + 1 : end + 1]
                nats -= sum(float(scores[place, token]) for place, token in enumerate(wanted) if token != SEPARATOR)
    assert result.nats == pytest.approx(nats, rel=1e-5)
    assert result.bytes == mixture.parts[1].validation.num_bytes
    together = validated(decoder, ValidationWindows(tokens, 32, 8))
    assert (together.tokens, together.bytes) == (result.tokens, result.bytes)
    assert together.nats != pytest.approx(result.nats, rel=1e-4)


def test_answers_are_asked_in_whole_documents(mixture):
    part = mixture.parts[1]
    batches = list(answer_batches(part, 32, 4, separate_documents=True))
    assert sum(int(batch.mask.sum()) for batch in batches) == int(part.validation.answers.sum())
    for batch in batches:
        begun = np.isin(np.flatnonzero(batch.mask.any(1)), np.flatnonzero(batch.inputs[:, 0] == SEPARATOR))
        assert begun.all()
        assert set(batch.targets[batch.mask].tolist()) <= set(b"abcdefghijklmnopqrstuvwxyz")


def test_accuracy_counts_the_likeliest_token_at_answers_only():
    targets = np.array([[1, 2, 3, 0], [0, 0, 2, 1]])
    mask = np.array([[True, True, False, False], [False, False, True, True]])
    batch = Batch(inputs=np.zeros_like(targets), targets=targets, mask=mask)
    guesses = torch.tensor([[1, 0, 3, 0], [1, 1, 2, 1]])

    def forward(tokens):
        return torch.nn.functional.one_hot(guesses, 4).float()

    found = answer_accuracy(Subject(torch.nn.Identity(), forward, CPU, 1), [batch, batch])
    assert found == Accuracy(correct=6, answers=8)
    assert found.share == 0.75
    assert found + Accuracy(1, 2) == Accuracy(7, 10)
    assert Validation(1.0, 2, 3) + Validation(4.0, 5, 6) == Validation(5.0, 7, 9)


def test_a_perfect_copier_is_right_every_time(mixture):
    """The rule of the source as a model: after the mark, what stands that far behind the start of the document."""

    def forward(tokens, *, documents):
        logits = torch.zeros(*tokens.shape, 257)
        for row, ids in zip(logits, zip(tokens.tolist(), documents.tolist(), strict=True), strict=True):
            for place in range(tokens.shape[1]):
                said = [token for token, document in zip(*ids, strict=True) if document == ids[1][place]]
                begun = ids[1].index(ids[1][place])
                text = said[1 : place - begun + 1]
                if ord("|") in text:
                    mark = text.index(ord("|"))
                    if len(text) - 1 - mark < mark:
                        row[place, text[len(text) - 1 - mark]] = 1.0
        return logits

    batches = answer_batches(mixture.parts[1], 32, 4, separate_documents=True)
    assert answer_accuracy(Subject(torch.nn.Identity(), forward, CPU, 1), batches).share == 1.0
