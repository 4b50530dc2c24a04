"""What a model made of a text, against torch on the model's own scores and against heads made by hand."""

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from atomiclm.cli import UserError
from atomiclm.inspection import read
from atomiclm.inspection.reading import _summaries
from atomiclm.model import Decoder, MultiHeadAttention, NoAttention, NormalInit
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer

TEXT = "the cat sat on the mat ü and the cat\n\nate the rat 統"


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = BasicTokenizer(vocab_size=280)
    tokenizer.train("the cat sat on the mat and the cat ate the rat that sat on the mat " * 20)
    return tokenizer


def build(**changes):
    sizes = {"vocab_size": 300, "dim": 32, "num_layers": 3, "context_length": 64, "tie_embeddings": False}
    return Decoder(**(sizes | {"init": NormalInit(seed=1, std=0.4)} | changes)).double()


@pytest.fixture(scope="module")
def tokens(tokenizer):
    end = tokenizer.special_tokens[END_OF_TEXT]
    return [end, *tokenizer.encode(TEXT), end, *tokenizer.encode("the")]


def test_losses_ranks_and_likeliest_are_those_of_torch(tokenizer, tokens):
    model = build()
    reading = read(model, tokenizer, tokens, alternatives=4)
    with torch.no_grad():
        scores = model(torch.tensor([tokens[:-1]]))[0]
    targets = torch.tensor(tokens[1:])
    losses = cross_entropy(scores, targets, reduction="none")
    assert [one.loss for one in reading.predictions] == pytest.approx(losses.tolist())
    order = scores.argsort(descending=True)
    assert [one.rank for one in reading.predictions] == [
        1 + row.tolist().index(target) for row, target in zip(order, tokens[1:], strict=True)
    ]
    best = scores.softmax(-1).topk(4)
    for one, ids, shares in zip(reading.predictions, best.indices.tolist(), best.values.tolist(), strict=True):
        assert [token for token, _ in one.likeliest] == ids
        assert [share for _, share in one.likeliest] == pytest.approx(shares)
        assert one.probability == pytest.approx(math.exp(-one.bits * math.log(2)))


def test_bits_per_byte_leave_out_special_tokens(tokenizer, tokens):
    reading = read(build(), tokenizer, tokens)
    end = tokenizer.special_tokens[END_OF_TEXT]
    losses = [one.loss for one, token in zip(reading.predictions, tokens[1:], strict=True) if token != end]
    assert len(losses) == len(tokens) - 2
    assert reading.bits_per_byte() == pytest.approx(sum(losses) / math.log(2) / len((TEXT + "the").encode()))
    assert reading.loss() == pytest.approx(sum(losses) / len(losses))


def test_the_lens_of_the_last_layer_is_the_model_and_that_of_the_first_its_embedding(tokenizer, tokens):
    model = build()
    reading = read(model, tokenizer, tokens)
    assert len(reading.lens) == 4
    assert reading.lens[-1] == reading.predictions
    with torch.no_grad():
        scores = model.head(model.norm(model.embedding(torch.tensor(tokens[:-1]))), model.embedding.weight)
    losses = cross_entropy(scores, torch.tensor(tokens[1:]), reduction="none")
    assert [one.loss for one in reading.lens[0]] == pytest.approx(losses.tolist())
    assert len({reading.bits_per_byte(depth) for depth in range(4)}) == 4


def test_the_text_is_put_together_again(tokenizer, tokens):
    reading = read(build(), tokenizer, tokens)
    assert "".join(reading.texts) == f"{END_OF_TEXT}{TEXT}{END_OF_TEXT}the"
    assert "" in reading.texts, "of a character of several tokens, all but the last add nothing"


def test_layers_without_weights_have_none(tokenizer, tokens):
    reading = read(build(attention=partial(NoAttention, num_heads=2)), tokenizer, tokens)
    assert reading.attention == [None] * 3
    assert reading.summaries == [[]] * 3
    reading = read(build(attention=partial(MultiHeadAttention, num_heads=2, window=3)), tokenizer, tokens)
    assert all(weights.shape == (2, len(tokens) - 1, len(tokens) - 1) for weights in reading.attention)
    assert reading.attention[0][0, 10, 7] == 0


def test_documents_are_kept_apart(tokenizer, tokens):
    end = tokenizer.special_tokens[END_OF_TEXT]
    documents = (torch.tensor([tokens[:-1]]) == end).cumsum(-1)
    apart = read(build(), tokenizer, tokens, documents=documents)
    last = read(build(), tokenizer, tokens[-tokens[::-1].index(end) - 1 :])
    assert [one.loss for one in apart.predictions[-len(last.predictions) :]] == pytest.approx(
        [one.loss for one in last.predictions]
    )


def test_heads_made_by_hand_are_known_by_their_numbers():
    inputs = torch.tensor([7, 8, 9, 7, 8, 9, 7, 8])
    time = len(inputs)
    itself, previous, first = torch.eye(time), torch.eye(time).roll(-1, 1), torch.zeros(time, time)
    previous[0, 0], previous[:, -1] = 1, 0
    first[:, 0] = 1
    induction = torch.eye(time)
    for at in range(3, time):
        induction[at] = 0
        induction[at, at - 2] = 1  # what came after the copy three tokens back
    heads = _summaries(torch.stack([itself, previous, first, induction]), inputs)
    assert [round(head.itself, 3) for head in heads] == [1, 0, 0, round(2 / 7, 3)]
    assert [round(head.previous, 3) for head in heads] == [0, 1, round(1 / 7, 3), 0]
    assert [round(head.first, 3) for head in heads] == [0, round(1 / 7, 3), 1, 0]
    assert [round(head.after_copy, 3) for head in heads] == [0, 0, 0, 1]
    assert [round(head.distance, 3) for head in heads] == [0, 1, 4, round(10 / 7, 3)]


def test_two_tokens_are_enough(tokenizer, tokens):
    reading = read(build(), tokenizer, tokens[:2])
    assert len(reading.predictions) == 1
    assert math.isnan(reading.summaries[0][0].distance)


def test_a_model_that_has_diverged_is_refused(tokenizer, tokens):
    model = build()
    with torch.no_grad():
        model.embedding.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        read(model, tokenizer, tokens)
