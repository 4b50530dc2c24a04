"""The training objective against torch's cross-entropy and against multi-token prediction written from the papers."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atomiclm.model import (
    Decoder,
    Embedding,
    FeedForward,
    Head,
    LayerNorm,
    NextToken,
    ParallelPrediction,
    SequentialPrediction,
    SoftcapHead,
    attention_kernel,
)

VOCAB, DIM, BATCH, TIME = 37, 16, 3, 11
SIZES = {"vocab_size": VOCAB, "dim": DIM, "num_layers": 2, "context_length": TIME}


def build(**changes):
    """Weights far from initial ones, so that logits are far from uniform and nothing hides."""
    model = Decoder(**(SIZES | changes)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch(masked=False):
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(VOCAB, (BATCH, TIME + 1), generator=generator)
    mask = torch.rand(BATCH, TIME, generator=generator) < 0.6 if masked else None
    return tokens[:, :-1], tokens[:, 1:], mask


def with_gradients(objective, model, *arguments, **keywords):
    model.zero_grad()
    loss = objective(model, *arguments, **keywords)
    loss.total.backward()
    return loss, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.3])
def test_next_token_equals_torch(masked, z_loss):
    model = build()
    tokens, targets, mask = batch(masked)
    loss, gradients = with_gradients(NextToken(z_loss=z_loss), model, tokens, targets, mask)

    model.zero_grad()
    logits = model(tokens)
    counted = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
    nats = F.cross_entropy(logits[counted], targets[counted], reduction="sum")
    penalty = z_loss * logits[counted].exp().sum(-1).log().pow(2).sum()
    (nats + penalty).backward()
    assert abs(loss.nats - nats) < 1e-10
    assert abs(loss.total - nats - penalty) < 1e-10
    assert set(loss.terms) == ({"z_loss"} if z_loss else set())
    assert not loss.nats.requires_grad
    if z_loss:
        assert loss.terms["z_loss"].item() == pytest.approx(penalty.item(), rel=1e-9)
        assert not loss.terms["z_loss"].requires_grad
    for name, parameter in model.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() < 1e-11, name


HEADS = {
    "tied": {},
    "untied": {"tie_embeddings": False},
    "scaled": {"head": partial(Head, scale=0.3)},
    "softcap": {"head": partial(SoftcapHead, cap=3.0)},
    "softcap_untied": {"head": partial(SoftcapHead, cap=3.0, scale=2.0), "tie_embeddings": False},
    "normed_embedding": {"embedding": partial(Embedding, scale="sqrt_dim", norm=LayerNorm)},
    "lookahead": {"lookahead": partial(SequentialPrediction, depth=2)},
}


@pytest.mark.parametrize("chunk_tokens", [1, 4, 11, BATCH * TIME, 1000])
@pytest.mark.parametrize("head", HEADS)
def test_chunked_equals_plain_with_all_gradients(head, chunk_tokens):
    model = build(**HEADS[head])
    tokens, targets, mask = batch(masked=chunk_tokens != 4)
    expected, expected_gradients = with_gradients(NextToken(z_loss=0.1), model, tokens, targets, mask)
    loss, gradients = with_gradients(NextToken(z_loss=0.1, chunk_tokens=chunk_tokens), model, tokens, targets, mask)
    assert abs(loss.nats - expected.nats) < 1e-12 * expected.nats
    assert abs(loss.total - expected.total) < 1e-12 * expected.total
    assert loss.terms.keys() == expected.terms.keys()
    for name, gradient in expected_gradients.items():
        assert gradient.abs().max() > 1e-6, "an empty comparison"
        assert (gradients[name] - gradient).abs().max() < 1e-12 * gradient.abs().max(), name


def test_chunked_gradient_is_scaled_by_what_follows_and_can_be_taken_twice():
    model = build(tie_embeddings=False)
    tokens, targets, mask = batch(masked=True)
    parameters = list(model.parameters())
    (plain,) = (torch.autograd.grad(NextToken()(model, tokens, targets, mask).total / 7, parameters),)
    total = NextToken(chunk_tokens=5)(model, tokens, targets, mask).total
    for _ in range(2):
        chunked = torch.autograd.grad(total / 7, parameters, retain_graph=True)
        assert all((a - b).abs().max() < 1e-13 for a, b in zip(plain, chunked, strict=True))


def test_chunked_without_gradients_and_with_frozen_parameters():
    model = build(tie_embeddings=False)
    tokens, targets, mask = batch(masked=True)
    expected = NextToken(z_loss=0.1)(model, tokens, targets, mask)
    with torch.no_grad():
        loss = NextToken(z_loss=0.1, chunk_tokens=5)(model, tokens, targets, mask)
    assert not loss.total.requires_grad
    assert abs(loss.total - expected.total) < 1e-10
    model.head.weight.requires_grad_(False)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    plain = torch.autograd.grad(expected.total, wanted)
    chunked = torch.autograd.grad(NextToken(z_loss=0.1, chunk_tokens=5)(model, tokens, targets, mask).total, wanted)
    assert all((a - b).abs().max() < 1e-12 * a.abs().max() for a, b in zip(plain, chunked, strict=True))


def test_nothing_counts():
    model = build()
    tokens, targets, _ = batch()
    for chunk_tokens in (None, 4):
        nothing = torch.zeros_like(targets, dtype=torch.bool)
        loss, gradients = with_gradients(NextToken(0.1, chunk_tokens), model, tokens, targets, nothing)
        assert loss.nats == loss.total == 0
        assert all(torch.all(gradient == 0) for gradient in gradients.values())


class LargestTensor(TorchDispatchMode):
    """Numbers in the largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.numel = max(
            [self.numel, *(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))]
        )
        return result


@pytest.mark.parametrize("chunk_tokens", [2, 16])
def test_logits_of_all_tokens_never_exist(chunk_tokens):
    vocab, dim, time = 2000, 8, 64
    model = Decoder(vocab, dim, 1, time, feedforward=partial(FeedForward, hidden_dim=8), tie_embeddings=False)
    tokens = torch.zeros(2, time, dtype=torch.int64)
    largest = {}
    for chunk in (None, chunk_tokens):
        with LargestTensor() as seen:
            NextToken(z_loss=0.1, chunk_tokens=chunk)(model, tokens, tokens).total.backward()
        largest[chunk] = seen.numel
    assert largest[None] == 2 * time * vocab
    assert largest[chunk_tokens] == max(chunk_tokens * vocab, vocab * dim), "a chunk's logits, or the head itself"


def test_many_scores_are_made_in_chunks_unasked():
    vocab, tokens = 70_000, torch.arange(256)[None]
    model = Decoder(vocab, dim=8, num_layers=1, context_length=256, feedforward=partial(FeedForward, hidden_dim=8))
    results = {}
    for chunk in (None, 256):
        with LargestTensor() as seen:
            loss, gradients = with_gradients(NextToken(chunk_tokens=chunk), model, tokens, tokens)
        results[chunk] = seen.numel, loss.total, gradients["embedding.weight"]
    assert results[None][0] == 2**23 // vocab * vocab
    assert results[256][0] == 256 * vocab
    assert torch.allclose(results[None][1], results[256][1], rtol=1e-6)
    assert torch.allclose(results[None][2], results[256][2], atol=1e-5)


@pytest.mark.parametrize("chunk_tokens", [None, 5])
@pytest.mark.parametrize(
    "lookahead", [None, *(partial(kind, depth=2) for kind in (SequentialPrediction, ParallelPrediction))]
)
def test_training_flops_equal_torch_counter(lookahead, chunk_tokens):
    """Chunks repeat no product."""
    from torch.utils.flop_counter import FlopCounterMode

    model = Decoder(**SIZES, lookahead=lookahead)
    tokens, targets, _ = batch()
    with FlopCounterMode(display=False) as counter, attention_kernel("explicit"):
        NextToken(z_loss=0.1, chunk_tokens=chunk_tokens)(model, tokens, targets).total.backward()
    assert counter.get_total_flops() == model.training_flops_per_token(TIME) * tokens.numel()


@pytest.mark.parametrize("head", [Head, SoftcapHead])
def test_chunked_under_autocast(head):
    """The same products in bfloat16, the same float32 loss; only sums over chunks are ordered anew."""
    model = build(head=head).float()
    tokens, targets, mask = batch(masked=True)
    results = []
    for chunk_tokens in (None, 5):
        with torch.autocast("cpu", torch.bfloat16):
            loss, gradients = with_gradients(NextToken(1e-2, chunk_tokens), model, tokens, targets, mask)
        assert loss.total.dtype == loss.nats.dtype == torch.float32
        results.append((loss, gradients))
    (plain, wide), (chunked, pieces) = results
    assert chunked.total.item() == pytest.approx(plain.total.item(), rel=1e-5)
    for name, gradient in wide.items():
        assert pieces[name].dtype == torch.float32
        assert (pieces[name] - gradient).norm() < 0.02 * gradient.norm(), name


def by_the_paper(model, tokens, targets, mask):
    """DeepSeek-V3, section 2.2, on shortened windows and one document at a time."""
    ahead = model.lookahead
    text = torch.cat([tokens, targets[:, -1:]], 1)
    hidden = model.hidden(tokens)
    total = torch.zeros((), dtype=torch.float64)
    for k in range(1, ahead.depth + 1):
        length = tokens.shape[1] - k
        if length <= 0:
            break
        index = k - 1
        read = model.embedding(text[:, k : k + length])
        both = torch.cat([ahead.hidden_norms[index](hidden[:, :length]), ahead.embedding_norms[index](read)], dim=-1)
        context = model._contexts(tokens[:, :length], None, None)[model.num_layers + index]
        hidden = ahead.blocks[index](both @ ahead.projections[index].weight.T, context)
        logits = model.logits(ahead.output_norms[index](hidden))
        wanted, counted = text[:, k + 1 : k + 1 + length], mask[:, k:]
        total = total + F.cross_entropy(logits[counted], wanted[counted], reduction="sum")
    return total


@pytest.mark.parametrize(("depth", "weight"), [(1, 0.3), (3, 0.3), (3, 0.1), (12, 1.0)])
def test_sequential_prediction_is_the_papers(depth, weight):
    model = build(lookahead=partial(SequentialPrediction, depth=depth, weight=weight))
    tokens, targets, mask = batch(masked=True)
    loss, gradients = with_gradients(NextToken(), model, tokens, targets, mask)
    model.zero_grad()
    extra = by_the_paper(model, tokens, targets, mask) * weight / depth
    nats = F.cross_entropy(model(tokens)[mask], targets[mask], reduction="sum")
    (nats + extra).backward()
    assert abs(loss.nats - nats) < 1e-10
    assert abs(loss.terms["lookahead"] - extra) < 1e-10
    assert abs(loss.total - nats - extra) < 1e-10
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert (gradients[name] - expected).abs().max() < 1e-10, name


@pytest.mark.parametrize("kind", [SequentialPrediction, ParallelPrediction])
def test_packed_documents_are_computed_as_if_each_stood_alone(kind):
    model = build(lookahead=partial(kind, depth=2, weight=0.5))
    tokens, targets, _ = batch()
    cut = 6
    documents = (torch.arange(TIME) >= cut).long().expand(BATCH, TIME)
    packed, gradients = with_gradients(NextToken(), model, tokens, targets, documents=documents)
    parts = [NextToken()(model, tokens[:, rows], targets[:, rows]) for rows in (slice(0, cut), slice(cut, TIME))]
    model.zero_grad()
    sum(part.total for part in parts).backward()
    assert abs(packed.nats - sum(part.nats for part in parts)) < 1e-10
    assert abs(packed.terms["lookahead"] - sum(part.terms["lookahead"] for part in parts)) < 1e-10
    for name, parameter in model.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() < 1e-10, name


def test_parallel_prediction_is_blocks_on_the_decoders_features():
    model = build(lookahead=partial(ParallelPrediction, depth=2, weight=2.0))
    tokens, targets, mask = batch(masked=True)
    loss = NextToken()(model, tokens, targets, mask)
    contexts = model._contexts(tokens, None, None)
    hidden = model.hidden(tokens)
    expected = 0.0
    for k in (1, 2):
        logits = model.logits(
            model.lookahead.output_norms[k - 1](model.lookahead.blocks[k - 1](hidden, contexts[1 + k]))
        )
        each = F.cross_entropy(logits[:, :-k].flatten(0, 1), targets[:, k:].flatten(), reduction="none")
        expected = expected + each[mask[:, k:].flatten()].sum()
    assert abs(loss.terms["lookahead"] - expected) < 1e-10
