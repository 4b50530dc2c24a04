"""Laws that hold for every combination of attention, position, window, packing and cache that is not refused.

The list is made from the options of conf/model, so an option added there is in it.
"""

import functools

import pytest
import torch
from hydra.errors import ConfigCompositionException
from small_model import groups, model_node

from atomiclm.config.build import build
from atomiclm.config.errors import ConfigError
from atomiclm.generation import Sampler, generate
from atomiclm.model import NoAttention, NormalInit

OPTIONS = groups()
TIME, VOCAB = 14, 31
DOCUMENTS = torch.tensor([[0] * 4 + [1] * 7 + [2] * 3, [-1] * 3 + [5] * 11])
ATTENTIONS = [
    *([f"model/attention={name}"] for name in OPTIONS["model/attention"]),
    *(
        ["model/attention=gqa", f"{group}={name}"]
        for group, names in OPTIONS.items()
        if group.startswith("model/attention/")
        for name in names
    ),
    ["model/attention=gqa", "model/attention/scores=capped", "model/attention/query_key_norm=per_head",
     "model/attention/gate=headwise", "model.attention.bias=true"],
]  # fmt: skip
WINDOWS = [[], ["model.attention.window=4"], ["model.attention.window=[3,null]"]]
POSITIONS = [
    *(f"model/position={name}" for name in OPTIONS["model/position"]),
    # Scaled within the context too.
    "model/position=dynamic_ntk model.position.original_length=6",
]
SIZES = [
    f"model.vocab_size={VOCAB}", "model.dim=32", "model.num_layers=2", "model.context_length=20",
    "model.attention.num_heads=4",
]  # fmt: skip


@functools.cache
def composed(overrides):
    """The model's node, None where it is refused."""
    sizes = SIZES if "model/attention=none" not in overrides else SIZES[:-1]
    try:
        return model_node("model/init=normal", *sizes, *overrides)
    except (ValueError, ConfigError, ConfigCompositionException):
        return None


@functools.cache
def decoder(overrides):
    """A small decoder in float64 with weights large enough for everything to matter; None where it is refused."""
    *others, position = overrides
    node = composed(tuple(others))
    if node is None:
        return None
    try:
        # Composing is slow, and what a position scheme is told does not depend on the rest.
        model = build(node | {"position": composed(tuple(position.split()))["position"]})
    except ValueError:
        return None
    NormalInit(seed=2, std=0.4)(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # gains of one and sinks of nought would hide what they do
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return model.double().eval()


COMBINATIONS = [
    (*attention, *window, position) for attention in ATTENTIONS for window in WINDOWS for position in POSITIONS
]
every_combination = pytest.mark.parametrize("overrides", COMBINATIONS, ids=" ".join)


@pytest.mark.slow
def test_the_list_of_combinations(capsys):
    counted = [overrides for overrides in COMBINATIONS if decoder(overrides) is not None]
    with capsys.disabled():
        print(
            f"\n{len(counted)} of {len(COMBINATIONS)} combinations of attention, position and window are admitted; "
            f"with 2 packings and 2 ways to fill the cache: {4 * len(counted)}"
        )
    assert len(counted) >= 300
    used = {part for overrides in counted for part in " ".join(overrides).split()}
    for group in ("model/attention", "model/position", *(name for name in OPTIONS if "attention/" in name)):
        assert {f"{group}={name}" for name in OPTIONS[group]} <= used


def drawn(seed=0):
    return torch.randint(VOCAB, (2, TIME), generator=torch.Generator().manual_seed(seed))


@pytest.mark.one_in(80)
@every_combination
def test_laws(overrides):
    model = decoder(overrides)
    if model is None:  # the only refusal there is to be: a window on what takes none
        assert {"model/attention=mla", "model/attention=none"} & set(overrides)
        assert any(override.startswith("model.attention.window") for override in overrides)
        return
    for documents in (None, DOCUMENTS):
        _cached_equals_uncached(model, documents)
        _causal_by_gradient(model, documents)
    _another_document_changes_no_bit(model)


def _cached_equals_uncached(model, documents):
    tokens = drawn()
    with torch.no_grad():
        whole = model(tokens, documents=documents)
        for sizes, room in (([1] * TIME, TIME), ([5, 1, 1, 4, 1, 2], TIME + 3)):
            cache = model.make_cache(2, room)
            parts, begin = [], 0
            for size in sizes:
                part = slice(begin, begin + size)
                parts.append(model(tokens[:, part], cache, None if documents is None else documents[:, part]))
                begin += size
            assert (torch.cat(parts, 1) - whole).abs().max() < 1e-10
            assert cache.num_bytes == 2 * model.cache_bytes(room, bytes_per_element=8)


def _causal_by_gradient(model, documents):
    """What was fed after a token, or in another document, moves its scores by exactly nothing."""
    fed = []

    def keep(module, arguments, output):
        fed.append(output.detach().requires_grad_())
        return fed[0]

    hook = model.embedding.register_forward_hook(keep)
    logits = model(drawn(), documents=documents)
    hook.remove()
    for row, query in ((0, 8), (1, 11)):
        (gradient,) = torch.autograd.grad(logits[row, query].square().sum(), fed[0], retain_graph=True)
        reached = gradient.abs().amax(-1)
        visible = torch.zeros(2, TIME, dtype=torch.bool)
        visible[row, : query + 1] = True
        if documents is not None:
            visible[row] &= documents[row] == documents[row, query]
        assert torch.all(reached[~visible] == 0)
        assert reached[row, query] > 0
        if not isinstance(model.blocks[0].attention, NoAttention):
            assert reached[row, query - 1] > 0, "it looks at its neighbour"


def _another_document_changes_no_bit(model):
    tokens = drawn(1)
    changed = tokens.clone()
    changed[0, :4] = (changed[0, :4] + 3) % VOCAB
    changed[0, 11:] = (changed[0, 11:] + 7) % VOCAB
    with torch.no_grad():
        before, after = model(tokens, documents=DOCUMENTS), model(changed, documents=DOCUMENTS)
    assert torch.equal(before[0, 4:11], after[0, 4:11])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0, :4], after[0, :4])


class Scoring(Sampler):
    """A sampler that keeps what it was shown."""

    def __call__(self, logits, generators):
        self.seen.append(logits)
        return super().__call__(logits, generators)

    def generate(self, model, prompts, max_tokens):
        """What was written, and the scores (rows, max_tokens, vocab_size) it was drawn from."""
        self.seen = []
        texts = generate(model, prompts, max_tokens, self, seed=5)
        return texts, torch.stack(self.seen, 1)


def _refused(overrides):
    return any(part in overrides for part in ("model/attention=mla", "model/attention=none")) and any(
        part.startswith("model.attention.window") for part in overrides
    )


def _differs_in_length(overrides):
    """Each attention with the scheme that looks at the length, and each scheme with three kinds of cache."""
    caches = (("model/attention=gqa",), ("model/attention=gqa", "model.attention.window=4"), ("model/attention=mla",))
    return overrides[-1] == POSITIONS[-1] or overrides[:-1] in caches


@pytest.mark.one_in(40)
@pytest.mark.parametrize(
    ("overrides", "temperature"),
    [
        pytest.param(overrides, temperature, id=f"{' '.join(overrides)} temperature={temperature}")
        for overrides in COMBINATIONS
        if not _refused(overrides)
        for temperature in ((0.0, 1.0) if _differs_in_length(overrides) else (1.0,))
    ],
)
def test_generation_is_a_continuation(overrides, temperature):
    """A higher limit only adds tokens and neighbours change nothing: texts, and scores up to the order of sums.

    One prompt is longer than the context, and the others grow beyond it.
    """
    model, sampler = decoder(overrides), Scoring(temperature)
    assert model is not None
    prompts = [drawn(seed)[0, :length].tolist() for seed, length in ((2, 3), (3, 11))] + [drawn(4).flatten().tolist()]
    texts, scores = sampler.generate(model, prompts, 22)
    for others, limit in (([prompts[0]], 1), ([prompts[0]], 20), ([[1], prompts[1], prompts[0]], 13)):
        row = len(others) // 2
        again, again_scores = sampler.generate(model, others, limit)
        assert again[row] == texts[row][:limit]
        assert (again_scores[row] - scores[row, :limit]).abs().max() < 1e-10
