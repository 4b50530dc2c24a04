"""Copying in context, asked of models whose answer is known."""

import math

import numpy as np
import pytest
import torch
from evaluation.slow_oracle import TRAINED, conditions, decoder, small_corpus, subject

from atomiclm.evaluation import Induction
from atomiclm.model import LearnedPosition, cross_entropy

ASKED = Induction(string_tokens=4, distances=(4, 7, 16), num_strings=5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("cache"))


def copier(distance, sure=50.0):
    """Says at each place what followed `distance` tokens ago."""

    def forward(tokens, *, documents=None):
        assert documents is None
        logits = torch.zeros(*tokens.shape, 257)
        if tokens.shape[1] > distance:
            ago = tokens[:, 1 : tokens.shape[1] - distance + 1]
            logits[:, distance:] = sure * torch.nn.functional.one_hot(ago, 257)
        return logits

    return forward


def sequences_seen(protocol, corpus):
    seen = []

    def forward(tokens, *, documents=None):
        seen.append(tokens.numpy().copy())
        return torch.zeros(*tokens.shape, 257)

    protocol.measure(subject(decoder(), forward, tokens_per_batch=10**6), conditions(corpus))
    return seen


@pytest.mark.parametrize("distance", [4, 7, 16])
def test_a_perfect_copier_is_right_at_its_distance_and_at_no_other(corpus, distance):
    figures = ASKED.measure(subject(decoder(), copier(distance)), conditions(corpus)).figures
    for other in (4, 7, 16):
        assert figures[f"copy_accuracy/{other}"] == (1.0 if other == distance else 0.0)
    assert figures[f"copy_loss/{distance}"] == pytest.approx(0.0, abs=1e-6)
    assert figures[f"loss_drop/{distance}"] == pytest.approx(math.log(257), rel=1e-6)  # it knows nothing the first time


def test_a_model_that_knows_nothing_needs_ln_v_and_gains_nothing(corpus):
    blind = subject(decoder(), lambda tokens, *, documents=None: torch.zeros(*tokens.shape, 257))
    figures = ASKED.measure(blind, conditions(corpus)).figures
    for distance in (4, 7, 16):
        assert figures[f"copy_loss/{distance}"] == pytest.approx(math.log(257), rel=1e-6)
        assert figures[f"loss_drop/{distance}"] == pytest.approx(0.0, abs=1e-6)


def test_sequences_are_a_string_text_and_the_string_again(corpus):
    stream = np.asarray(corpus.validation.tokens)
    text = bytes(stream[stream != 256].tolist())
    seen = sequences_seen(ASKED, corpus)
    strings = seen[0][:, 1:5]
    for tokens, distance in zip(seen, (4, 7, 16), strict=True):
        assert tokens.shape == (5, distance + 4)
        assert (tokens[:, 0] == 256).all()
        assert (tokens[:, 1:5] == strings).all()  # the same strings at every distance
        assert (tokens[:, 1 + distance :] == strings[:, :3]).all()
        for row in tokens:
            assert bytes(row[5 : 1 + distance].tolist()) in text
            assert 256 not in row[1:]
    for row in strings:
        assert len(set(row.tolist())) == 4
    assert len({tuple(row) for row in strings.tolist()}) == 5


def test_the_loss_is_that_of_a_plain_pass(corpus):
    model = decoder()
    found = ASKED.measure(subject(model), conditions(corpus)).figures
    tokens = torch.from_numpy(sequences_seen(ASKED, corpus)[1])
    whole = torch.cat([tokens, tokens[:, 4:5]], 1)  # the last token of the string, which no pass reads
    with torch.no_grad():
        nats = cross_entropy(model.eval()(tokens).double(), whole[:, 1:], reduction="none")
    first, again = nats[:, 1:4].mean(), nats[:, 8:11].mean()
    assert found["copy_loss/7"] == pytest.approx(float(again), rel=1e-5)
    assert found["loss_drop/7"] == pytest.approx(float(first - again), abs=1e-5)


def test_the_seed_decides_the_strings_and_no_other_generator_does(corpus):
    torch.manual_seed(1)
    once = sequences_seen(ASKED, corpus)
    torch.manual_seed(2)
    again = sequences_seen(ASKED, corpus)
    other = sequences_seen(Induction(4, (4, 7, 16), 5, seed=1), corpus)
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert not (once[0] == other[0]).all()


def test_distances_follow_the_context_trained_on_unless_given(corpus):
    assert Induction(3).settings(conditions(corpus))["distances"] == [4, 8, 16, 32] == [4, 8, 2 * TRAINED, 4 * TRAINED]
    assert Induction(4, (9, 5)).settings(conditions(corpus))["distances"] == [5, 9]


def test_what_learned_positions_cannot_read_is_noted(corpus):
    measured = ASKED.measure(subject(decoder(position=LearnedPosition)), conditions(corpus))
    assert sorted(measured.figures) == ["copy_accuracy/4", "copy_loss/4", "loss_drop/4"]
    assert measured.notes[0] == "7 tokens back: LearnedPosition has 8 positions, and 11 tokens are needed"
    assert len(measured.notes) == 2


def test_questions_that_cannot_be_asked_are_refused(corpus):
    with pytest.raises(ValueError, match="string_tokens: 1 leave nothing to predict"):
        Induction(1)
    with pytest.raises(ValueError, match="num_strings: 0 is not positive"):
        Induction(num_strings=0)
    with pytest.raises(ValueError, match=r"distances: .* must each be at least string_tokens=4"):
        Induction(4, (3, 8))
    with pytest.raises(ValueError, match="string_tokens: the tokenizer has 256 tokens of text"):
        Induction(300, (400,)).settings(conditions(corpus))
    with pytest.raises(ValueError, match="distances: 5000 needs 4996 tokens of validation text"):
        Induction(4, (5000,)).settings(conditions(corpus))
    with pytest.raises(ValueError, match="too many for a context of 8"):
        Induction(40).settings(conditions(corpus))
