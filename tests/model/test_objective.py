"""What the objective adds up, when, and what it refuses."""

from functools import partial

import pytest
import torch
from torch import nn

from atomiclm.model import Decoder, FeedForward, NextToken, ParallelPrediction, SequentialPrediction, SwiGLU

SIZES = {"vocab_size": 19, "dim": 16, "num_layers": 2, "context_length": 8}
TEXT = torch.randint(19, (4, 9), generator=torch.Generator().manual_seed(0))
TOKENS, TARGETS = TEXT[:, :-1], TEXT[:, 1:]
MASK = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < 0.5


class Balanced(FeedForward):
    """A network with losses of its own."""

    def forward(self, hidden):
        self.auxiliary = {"balance": hidden.square().mean(), "router": 2.0 * hidden.mean().square()}
        return super().forward(hidden)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("chunk_tokens", [None, 3])
def test_total_is_nats_and_all_terms(mask, chunk_tokens):
    model = Decoder(**SIZES, feedforward=Balanced, lookahead=SequentialPrediction).double()
    loss = NextToken(z_loss=0.2, chunk_tokens=chunk_tokens)(model, TOKENS, TARGETS, mask)
    assert set(loss.terms) == {"z_loss", "lookahead"}
    assert loss.total.item() == pytest.approx((loss.nats + sum(loss.terms.values())).item(), rel=1e-12)
    assert all(term > 0 and not term.requires_grad for term in loss.terms.values())
    assert loss.auxiliary == model.auxiliary_losses(), "means over tokens, whatever counts"
    assert set(loss.auxiliary) == {"balance", "router"}
    for part in (loss.total, *loss.auxiliary.values()):
        gradient = torch.autograd.grad(part, model.blocks[0].attention_norm.weight, retain_graph=True)[0]
        assert gradient.abs().max() > 0


def test_only_nats_are_left_in_evaluation_mode():
    model = Decoder(**SIZES, feedforward=Balanced, lookahead=SequentialPrediction).double()
    trained = NextToken()(model, TOKENS, TARGETS)
    evaluated = NextToken()(model.eval(), TOKENS, TARGETS)
    assert evaluated.terms == evaluated.auxiliary == {}
    assert evaluated.total == evaluated.nats == trained.nats


def test_micro_batches_add_up():
    model = Decoder(**SIZES, lookahead=partial(SequentialPrediction, depth=2)).double()
    objective = NextToken(z_loss=0.1)
    whole = objective(model, TOKENS, TARGETS, MASK)
    parts = [objective(model, TOKENS[rows], TARGETS[rows], MASK[rows]) for rows in (slice(0, 1), slice(1, 4))]
    assert sum(part.total for part in parts).item() == pytest.approx(whole.total.item(), rel=1e-13)
    assert sum(part.nats for part in parts).item() == pytest.approx(whole.nats.item(), rel=1e-13)


@pytest.mark.parametrize("kind", [SequentialPrediction, ParallelPrediction])
def test_lookahead_changes_no_other_tensor_and_no_logits(kind):
    plain = Decoder(**SIZES).eval()
    ahead = Decoder(**SIZES, lookahead=partial(kind, depth=2)).eval()
    state, more = plain.state_dict(), ahead.state_dict()
    assert all(torch.equal(more[name], tensor) for name, tensor in state.items())
    added = {name: tensor for name, tensor in more.items() if name not in state}
    assert all(name.startswith("lookahead.") for name in added)
    assert ahead.num_parameters() - plain.num_parameters() == sum(tensor.numel() for tensor in added.values())
    assert torch.equal(plain(TOKENS), ahead(TOKENS))
    assert ahead.flops_per_token() == plain.flops_per_token()
    assert ahead.cache_bytes(8) == plain.cache_bytes(8)
    assert ahead.training_flops_per_token() > plain.training_flops_per_token()
    assert len(list(ahead.lookahead.blocks)) == 2


def test_parameters_and_flops_of_sequential_prediction():
    plain, ahead = (Decoder(**SIZES, lookahead=kind) for kind in (None, partial(SequentialPrediction, depth=3)))
    block = sum(parameter.numel() for parameter in plain.blocks[0].parameters())
    assert ahead.num_parameters() - plain.num_parameters() == 3 * (block + 2 * 16 * 16 + 3 * 16)
    roles = ahead.num_parameters_by_role()
    assert roles["gain"] - plain.num_parameters_by_role()["gain"] == 3 * (2 + 3) * 16
    extra = ahead.training_flops_per_token() - plain.training_flops_per_token()
    assert extra == 3 * 3 * (plain.blocks[0].flops_per_token(8) + 2 * 2 * 16 * 16 + 2 * 16 * 19)


def test_layers_of_lookahead_are_numbered_after_the_decoders():
    numbers = []

    def feedforward(dim, layer):
        numbers.append(layer)
        return SwiGLU(dim)

    Decoder(**SIZES, feedforward=feedforward, lookahead=partial(SequentialPrediction, depth=2))
    assert numbers == [0, 1, 2, 3]


def test_weight_and_depth_arrive():
    def term(**changes):
        model = Decoder(**SIZES, lookahead=partial(SequentialPrediction, **changes)).double()
        return NextToken()(model, TOKENS, TARGETS).terms["lookahead"].item()

    assert term(weight=0.6) == pytest.approx(2 * term(weight=0.3), rel=1e-12)
    assert term(depth=2) != pytest.approx(term(depth=1), rel=1e-3)


def test_one_dead_end_is_no_gradient():
    """What depth k reads in the last k places reaches nothing that counts."""
    model = Decoder(**SIZES, lookahead=partial(SequentialPrediction, depth=2)).double()
    embedded = []
    model.embedding.register_forward_hook(lambda _, __, output: (output.retain_grad(), embedded.append(output))[0])
    NextToken()(model, TOKENS, TARGETS).terms["lookahead"]
    NextToken()(model, TOKENS, TARGETS).total.backward()
    main, first, second = embedded[3:]
    assert torch.all(first.grad[:, -1:] == 0)
    assert torch.all(second.grad[:, -2:] == 0)
    assert torch.all(first.grad[:, :-1].abs().amax(-1) > 0)
    assert torch.all(main.grad.abs().amax(-1) > 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NextToken(z_loss=-1e-4), r"z_loss=-0\.0001 must be at least 0"),
        (lambda: NextToken(chunk_tokens=0), "chunk_tokens=0 must be greater than 0"),
        (lambda: Decoder(**SIZES, lookahead=partial(SequentialPrediction, depth=0)), "lookahead: depth=0 must be"),
        (
            lambda: Decoder(**SIZES, lookahead=partial(ParallelPrediction, weight=0.0)),
            r"lookahead: weight=0\.0 must be",
        ),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_nothing_but_modules_with_auxiliary_losses_report_them():
    assert Decoder(**SIZES).auxiliary_losses() == {}
    assert isinstance(Decoder(**SIZES, lookahead=SequentialPrediction).lookahead, nn.Module)
