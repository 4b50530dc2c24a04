"""Sliding windows, the loss by position and longer windows: against one plain pass for every single token."""

import math

import numpy as np
import pytest
import torch
from evaluation.slow_oracle import (
    SEPARATOR,
    TRAINED,
    begin_of_document,
    conditions,
    decoder,
    nats_from,
    small_corpus,
    subject,
    text_targets,
)

from atomiclm.data import Copy, Markov, Mixture, ValidationWindows
from atomiclm.evaluation import (
    BitsPerByte,
    ByPosition,
    LengthExtrapolation,
    Recall,
    Sliding,
)
from atomiclm.model import LearnedPosition, NoPosition
from atomiclm.run_evaluation import validation_row

LN2 = math.log(2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    sources = {
        "chain": Markov(num_documents=16, document_bytes=40, validation_fraction=0.3),
        "copy": Copy(num_documents=60, min_length=1, max_length=3, validation_fraction=0.2),
    }
    return small_corpus(tmp_path_factory.mktemp("cache"), Mixture(sources, {"chain": 1.0, "copy": 1.0}))


def uniform(tokens, *, documents=None):
    return torch.zeros(*tokens.shape, 257)


def tokens_of(corpus):
    return np.asarray(corpus.validation.tokens)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("stride", [1, 3])
def test_sliding_windows_give_each_token_the_context_they_promise(corpus, stride, separate):
    model, tokens = decoder(), tokens_of(corpus)
    nats = 0.0
    for target in text_targets(tokens):
        begin = max(0, -(-(target - TRAINED + 1) // stride)) * stride
        assert begin == 0 or target - begin + 1 >= TRAINED - stride + 1
        nats += nats_from(model, tokens, max(begin, begin_of_document(tokens, target)) if separate else begin, target)
    found = Sliding(stride).measure(subject(model), conditions(corpus, separate)).figures
    assert found["bits_per_byte"] == pytest.approx(nats / LN2 / corpus.validation.num_bytes, rel=1e-5)
    assert found["loss"] == pytest.approx(nats / len(text_targets(tokens)), rel=1e-5)


@pytest.mark.parametrize("separate", [False, True])
def test_a_stride_of_the_whole_context_is_end_to_end_to_the_last_bit(corpus, separate):
    measured = [
        protocol.measure(subject(decoder()), conditions(corpus, separate)).figures
        for protocol in (Sliding(TRAINED), BitsPerByte(), Sliding(2))
    ]
    assert measured[0] == measured[1] != measured[2]


@pytest.mark.parametrize("num_tokens", [2, 8, 9, 10, 24, 25, 26])
@pytest.mark.parametrize("stride", [1, 3, 7, 8])
def test_windows_of_any_stride_ask_for_every_token_once(num_tokens, stride):
    tokens = np.arange(100, 100 + num_tokens, dtype=np.uint16)
    batches = list(ValidationWindows(tokens, 8, 3, None, stride))
    asked = np.concatenate([batch.targets[batch.mask] for batch in batches])
    assert sorted(asked) == list(range(101, 100 + num_tokens))
    for batch in batches:
        assert (batch.targets[batch.mask] == batch.inputs[batch.mask] + 1).all()
        assert len(batch.inputs) <= 3


@pytest.mark.parametrize("separate", [False, True])
def test_the_loss_by_position_is_that_of_a_cache_fed_one_token_at_a_time(corpus, separate):
    model, tokens = decoder().eval(), tokens_of(corpus)
    nats, counts = np.zeros(TRAINED), np.zeros(TRAINED)
    for begin in range(0, len(tokens) - 1, TRAINED):
        cache = model.make_cache(1, TRAINED)
        seen = 0
        for place in range(begin, min(begin + TRAINED, len(tokens) - 1)):
            if separate and tokens[place] == SEPARATOR:
                cache, seen = model.make_cache(1, TRAINED), 0
            with torch.no_grad():
                scores = torch.log_softmax(model(torch.tensor([[int(tokens[place])]]), cache)[0, -1].double(), -1)
            if tokens[place + 1] != SEPARATOR:
                nats[seen] -= float(scores[int(tokens[place + 1])])
                counts[seen] += 1
            seen += 1
    curve = ByPosition().measure(subject(model), conditions(corpus, separate)).curves["position"]
    assert curve["position"] == list(range(TRAINED))
    assert curve["tokens"] == counts.tolist()
    assert curve["loss"] == pytest.approx((nats / counts).tolist(), rel=1e-5)
    assert curve["bits_per_byte"] == pytest.approx((nats / counts / LN2).tolist(), rel=1e-5)  # a byte is a token


def test_the_weighted_mean_over_positions_is_the_loss(mixture):
    for separate in (False, True):
        total = BitsPerByte().measure(subject(decoder()), conditions(mixture, separate)).figures
        measured = ByPosition().measure(subject(decoder()), conditions(mixture, separate))
        assert measured.figures["bits_per_byte"] == pytest.approx(total["bits_per_byte"], rel=1e-12)
        for curve in measured.curves.values():
            mean = np.average(curve["loss"], weights=curve["tokens"])
            assert mean == pytest.approx(total["loss"], rel=1e-12)
        assert measured.curves["binned"]["position"] == [0, 1, 2, 4]


@pytest.mark.parametrize("separate", [False, True])
def test_longer_windows_are_scored_as_one_pass_for_every_token(corpus, separate):
    model, tokens = decoder(), tokens_of(corpus)
    # Where windows overlap in their positions beyond 8 tokens: every second block; in a document, 8 tokens behind its
    # begin and behind the begin of the window at once.
    begins = {k: lambda t, k=k: t - t % (k * TRAINED) for k in (1, 2, 4)}
    if separate:
        begins = {k: lambda t, b=b: max(b(t), begin_of_document(tokens, t)) for k, b in begins.items()}
    beyond = [t for t in text_targets(tokens) if all(t - begins[k](t) >= TRAINED for k in (2, 4))]
    if not separate:
        assert beyond == [t for t in text_targets(tokens) if (t // TRAINED) % 2 == 1]
    assert beyond
    measured = LengthExtrapolation((4, 1, 2)).measure(subject(model), conditions(corpus, separate))
    for k, begin in begins.items():
        nats = {target: nats_from(model, tokens, begin(target), target) for target in text_targets(tokens)}
        assert measured.figures[f"loss/{k}x"] == pytest.approx(np.mean(list(nats.values())), rel=1e-5)
        assert measured.figures[f"beyond_loss/{k}x"] == pytest.approx(np.mean([nats[t] for t in beyond]), rel=1e-5)
        curve = measured.curves[f"{k}x"]
        assert sum(curve["tokens"]) == len(nats)
        if separate is False:
            last = [nats[t] for t in nats if t - begin(t) == k * TRAINED - 1]  # T / 8 is one position here
            assert curve["loss"][-1] == pytest.approx(np.mean(last), rel=1e-5)
    assert measured.notes == []


def test_windows_of_the_context_trained_on_give_the_headline(mixture):
    total = BitsPerByte().measure(subject(decoder()), conditions(mixture)).figures
    figures = LengthExtrapolation((1, 2)).measure(subject(decoder()), conditions(mixture)).figures
    assert figures["bits_per_byte/1x"] == pytest.approx(total["bits_per_byte"], rel=1e-9)
    assert figures["loss/1x"] == pytest.approx(total["loss"], rel=1e-9)
    assert figures["bits_per_byte/2x"] != pytest.approx(total["bits_per_byte"], rel=1e-4)


def test_without_positions_and_with_a_window_of_one_token_no_length_matters(corpus):
    """A model that sees itself only is as good in windows of any length, on any targets."""
    alone = decoder(window=1, position=NoPosition)
    figures = LengthExtrapolation((1, 2, 4)).measure(subject(alone), conditions(corpus)).figures
    for kind in ("loss", "beyond_loss"):
        assert figures[f"{kind}/4x"] == pytest.approx(figures[f"{kind}/1x"], rel=1e-6)


def test_what_learned_positions_cannot_read_is_noted_and_the_rest_measured(corpus):
    model = decoder(position=LearnedPosition)
    measured = LengthExtrapolation((1, 2)).measure(subject(model), conditions(corpus))
    assert sorted(measured.figures) == ["beyond_bits_per_byte/1x", "beyond_loss/1x", "bits_per_byte/1x", "loss/1x"]
    assert measured.notes == ["2x: LearnedPosition has 8 positions, and 16 tokens are needed"]


def test_short_documents_apart_reach_nowhere_and_that_is_noted(mixture):
    chosen = conditions(mixture, True, source="copy")
    measured = LengthExtrapolation((1, 2)).measure(subject(decoder()), chosen)
    assert measured.notes == ["no document reaches beyond 8 tokens, so nothing is measured there"]
    assert not any(name.startswith("beyond") for name in measured.figures)


def test_a_model_that_knows_nothing_needs_ln_v_everywhere(corpus):
    blind = subject(decoder(), uniform)
    for protocol in (BitsPerByte(), Sliding(3), ByPosition()):
        assert protocol.measure(blind, conditions(corpus)).figures["loss"] == pytest.approx(math.log(257), rel=1e-6)
    for loss in ByPosition().measure(blind, conditions(corpus, True)).curves["position"]["loss"]:
        assert loss == pytest.approx(math.log(257), rel=1e-6)
    for name, value in LengthExtrapolation((1, 4)).measure(blind, conditions(corpus)).figures.items():
        wanted = math.log(257) / (LN2 if "bits" in name else 1)
        assert value == pytest.approx(wanted, rel=1e-6)


def test_longer_windows_are_fewer_in_a_batch(corpus):
    shapes = []

    def forward(tokens, *, documents=None):
        shapes.append(tuple(tokens.shape))
        return uniform(tokens)

    LengthExtrapolation((1, 2, 4, 8)).measure(subject(decoder(), forward, tokens_per_batch=32), conditions(corpus))
    assert {shape for shape in shapes if shape[0] * shape[1] == 32} == {(4, 8), (2, 16), (1, 32)}
    assert {shape for shape in shapes if shape[0] * shape[1] > 32} == {(1, 64)}  # no batch is less than a window


@pytest.mark.parametrize("protocol", [BitsPerByte(), Sliding(3), ByPosition(), LengthExtrapolation((1, 2)), Recall()])
def test_batches_of_any_size_give_the_same_and_nothing_of_the_training_is_disturbed(mixture, protocol):
    model = decoder(dropout=0.5).train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    runs = [protocol.measure(subject(model, tokens_per_batch=size), conditions(mixture)) for size in (16, 40, 4096)]
    assert [module.training for module in model.modules()] == modes
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    for run in runs[1:]:
        assert dict(run.figures) == pytest.approx(dict(runs[0].figures), rel=1e-6)


def test_one_source_of_a_mixture_is_that_source_by_itself(mixture, tmp_path):
    whole = BitsPerByte().measure(subject(decoder()), conditions(mixture)).figures
    chain = BitsPerByte().measure(subject(decoder()), conditions(mixture, source="chain")).figures
    assert chain["bits_per_byte"] == whole["bits_per_byte/chain"]
    alone = small_corpus(tmp_path, Markov(num_documents=16, document_bytes=40, validation_fraction=0.3))
    assert conditions(alone).validation_sha256 == conditions(mixture, source="chain").validation_sha256
    assert BitsPerByte().measure(subject(decoder()), conditions(alone)).figures["loss"] == chain["loss"]


def test_recall_asks_only_sources_that_know_their_answers(mixture, corpus):
    found = Recall().measure(subject(decoder()), conditions(mixture)).figures
    row = validation_row(subject(decoder()), conditions(mixture))
    assert found == {"accuracy": row["validation/accuracy"], "accuracy/copy": row["validation/accuracy/copy"]}
    with pytest.raises(ValueError, match="no source of this run knows its answers"):
        Recall().measure(subject(decoder()), conditions(corpus))
