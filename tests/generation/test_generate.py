"""The decoding loop against the plainest one: a full pass for each token, one row at a time."""

from functools import partial

import pytest
import torch

from atomiclm.cli import UserError
from atomiclm.generation import Sampler, generate
from atomiclm.model import (
    Alibi,
    Decoder,
    LatentAttention,
    LearnedPosition,
    MultiHeadAttention,
    NoPosition,
    NormalInit,
    RotaryEmbedding,
    SinkSoftmax,
)

VOCAB, CONTEXT = 31, 16
GREEDY = Sampler(temperature=0)
PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [6], [5, 3, 5], [8, 9, 7, 9, 3, 2, 3, 8, 4]]


def build(position=RotaryEmbedding, num_kv_heads=2, **changes):
    """Weights so large that the likeliest next token changes with the context."""
    return Decoder(
        **{
            "vocab_size": VOCAB,
            "dim": 32,
            "num_layers": 2,
            "context_length": CONTEXT,
            "attention": partial(MultiHeadAttention, num_heads=4, num_kv_heads=num_kv_heads),
            "position": position,
            "init": NormalInit(seed=1, std=0.6),
            "tie_embeddings": False,  # a tied head likes to repeat its input
        }
        | changes
    ).double()


def naive(model, prompt, max_tokens):
    """Greedy, without a cache; past the context, the last half of it becomes the prompt."""
    model.eval()
    start, tokens = 0, list(prompt)
    for _ in range(max_tokens):
        if len(tokens) - start > CONTEXT:
            start = len(tokens) - CONTEXT // 2
        with torch.no_grad():
            tokens.append(model(torch.tensor([tokens[start:]]))[0, -1].argmax().item())
    return tokens[len(prompt) :]


every_position = pytest.mark.parametrize("position", [RotaryEmbedding, LearnedPosition, NoPosition])


@every_position
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_cached_greedy_equals_full_passes(position, num_kv_heads):
    model = build(position, num_kv_heads)
    (text,) = generate(model, [PROMPTS[0]], 9, GREEDY)
    assert text == naive(model, PROMPTS[0], 9)
    assert len(set(text)) > 3, "a text of one token over and over would prove nothing"


@every_position
@pytest.mark.parametrize("max_tokens", [7, 60])
def test_a_batch_of_unequal_prompts_equals_its_rows_alone(position, max_tokens):
    """60 tokens go past the context several times, each row at a step of its own."""
    model = build(position)
    together = generate(model, PROMPTS, max_tokens, GREEDY)
    assert together == [naive(model, prompt, max_tokens) for prompt in PROMPTS]
    assert together == [generate(model, [prompt], max_tokens, GREEDY)[0] for prompt in PROMPTS]


@pytest.mark.parametrize("max_tokens", [8, 40])
def test_a_sampled_row_never_depends_on_the_others(max_tokens):
    model = build()
    sampler = Sampler(temperature=1.5, top_k=20)
    first = generate(model, PROMPTS, max_tokens, sampler, seed=7)
    others = generate(model, [[1, 2], [6], [9] * 12], max_tokens, sampler, seed=7)
    assert first[1] == others[1]
    assert first[0] == generate(model, PROMPTS[:1], max_tokens, sampler, seed=7)[0]
    stopping = generate(model, PROMPTS, max_tokens, sampler, seed=7, stop_tokens={first[0][2]})
    assert all(text == whole[: len(text)] for text, whole in zip(stopping, first, strict=True))


def test_seeds():
    model = build()
    sampler = Sampler()
    first, again, other = (generate(model, PROMPTS, 12, sampler, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert all(text != different for text, different in zip(first, other, strict=True))
    same_prompt = generate(model, [[4, 4]] * 3, 12, sampler, seed=1)
    assert len({tuple(text) for text in same_prompt}) == 3, "rows draw apart even from one prompt"
    assert generate(model, PROMPTS, 12, GREEDY, seed=1) == generate(model, PROMPTS, 12, GREEDY, seed=2)


def test_global_random_state_is_neither_read_nor_moved():
    model = build(dropout=0.5).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = torch.get_rng_state()
        first = generate(model, PROMPTS, 6, Sampler(), seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(1)
        assert generate(model, PROMPTS, 6, Sampler(), seed=3) == first


def test_modes_are_put_back():
    model = build(dropout=0.5).train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    texts = generate(model, PROMPTS, 5, GREEDY)
    assert [module.training for module in model.modules()] == modes
    assert texts == [naive(model, prompt, 5) for prompt in PROMPTS], "no dropout while writing"

    def fail(row, token, scores):
        raise RuntimeError("stop here")

    model.train()
    with pytest.raises(RuntimeError, match="stop here"):
        generate(model, PROMPTS, 5, GREEDY, on_token=fail)
    assert all(module.training for module in model.modules())
    assert not model(torch.tensor([[1, 2]])).is_inference()


def test_stop_tokens_end_a_row_and_are_left_out():
    model = build()
    whole = generate(model, PROMPTS, 12, GREEDY)
    stop = {whole[0][3], whole[2][6]}
    stopped = generate(model, PROMPTS, 12, GREEDY, stop_tokens=stop)
    for text, full in zip(stopped, whole, strict=True):
        end = next((place for place, token in enumerate(full) if token in stop), 12)
        assert text == full[:end]
    assert generate(model, PROMPTS, 12, GREEDY, stop_tokens=range(VOCAB)) == [[]] * 4


def test_rows_that_are_done_leave_the_batch():
    model = build()
    whole = generate(model, PROMPTS, 12, GREEDY)
    rows = []
    hook = model.embedding.register_forward_hook(lambda module, arguments, output: rows.append(len(arguments[0])))
    stopped = generate(model, PROMPTS, 12, GREEDY, stop_tokens={whole[0][3], whole[2][6]})
    hook.remove()
    steps = [1 + len(text) for text in stopped]  # the token that ends a row takes a pass as well
    assert len(set(steps)) > 2
    assert rows == [sum(step > passed for step in steps) for passed in range(len(rows))]


def test_tokens_are_streamed_as_they_come():
    model = build()
    heard = []
    stop = generate(model, PROMPTS, 30, GREEDY)[0][4]
    texts = generate(
        model, PROMPTS, 30, GREEDY, stop_tokens=[stop], on_token=lambda row, token, scores: heard.append((row, token))
    )
    for row, text in enumerate(texts):
        assert [token for place, token in heard if place == row] == text
    first_step = [row for row, _ in heard[:4]]
    assert first_step == [0, 1, 2, 3]


def test_a_prompt_longer_than_the_context_keeps_its_last_half():
    model = build(LearnedPosition)
    prompt = [token % VOCAB for token in range(50)]
    assert generate(model, [prompt], 5, GREEDY) == generate(model, [prompt[-CONTEXT // 2 :]], 5, GREEDY)
    full = prompt[:CONTEXT]
    assert generate(model, [full], 1, GREEDY) == [naive(model, full, 1)], "a prompt that just fits is kept whole"


def test_the_least_context_works():
    model = build(LearnedPosition, context_length=1)
    expected, token = [], 3
    for _ in range(6):
        token = model(torch.tensor([[token]]))[0, -1].argmax().item()
        expected.append(token)
    assert generate(model, [[9, 3]], 6, GREEDY) == [expected]


def test_one_pass_a_token_and_none_to_spare():
    """The cache is used: after the prompt, each pass through the model is one token wide."""
    model = build()
    widths = []
    model.embedding.register_forward_hook(lambda module, arguments, output: widths.append(arguments[0].shape[1]))
    generate(model, [PROMPTS[0]], 6, GREEDY)
    assert widths == [7, 1, 1, 1, 1, 1]
    widths.clear()
    generate(model, [PROMPTS[0]], 20, GREEDY)
    # 7 + 9 = 16 fill the context; the 17th token starts again from the last 8, and so once more.
    assert widths == [7] + [1] * 9 + [8] + [1] * 8 + [8]


def test_works_under_autocast():
    model = build().float()
    with torch.autocast("cpu", torch.bfloat16):
        texts = generate(model, PROMPTS, 20, GREEDY)
    assert [len(text) for text in texts] == [20] * 4


@pytest.mark.parametrize("bias", [False, True])
def test_a_single_row_writes_the_same_where_its_products_are_halved(bias, monkeypatch):
    model = build(attention=partial(MultiHeadAttention, num_heads=4, bias=bias))
    halved, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda weight, column: halved.append(weight.shape) or bmm(weight, column))
    texts = []
    for slow in (False, True):
        monkeypatch.setattr("atomiclm.model.components.mkl_is_slow", lambda slow=slow: slow)
        halved.clear()
        texts.append(generate(model, PROMPTS[:1], 20, GREEDY))
        assert bool(halved) == slow
    assert texts[0] == texts[1]
    assert {shape[0] for shape in halved} == {2}


CHANGES = {
    "grouped": {},
    "window_and_sink": {"attention": partial(MultiHeadAttention, num_heads=4, window=[5, None], scores=SinkSoftmax)},
    "window_and_alibi": {"attention": partial(MultiHeadAttention, num_heads=4, window=6), "position": Alibi},
    "latent": {
        "attention": partial(LatentAttention, num_heads=4, latent_dim=12, content_dim=8, rotary_dim=4, value_dim=6)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "halved", "backend"),
    [*((changed, False, "aot_eager") for changed in CHANGES), ("grouped", True, "inductor")],
)
def test_compiled_steps_write_the_same_and_are_not_compiled_for_each_token(changed, halved, backend, monkeypatch):
    """Across refilled caches, rows that leave, and a batch of one, whose pass is a program of its own."""
    monkeypatch.setattr("atomiclm.model.components.mkl_is_slow", lambda: halved)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = build(**CHANGES[changed])
    ends = {generate(model, PROMPTS, 40, GREEDY)[0][12]}
    expected = generate(model, PROMPTS, 40, GREEDY, stop_tokens=ends)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    assert generate(model, PROMPTS, 40, GREEDY, stop_tokens=ends, compile=True) == expected
    assert not counters["graph_break"]
    assert 1 <= counters["stats"]["unique_graphs"] <= 6


def test_no_compiler_is_said_in_one_line():
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    # `monkeypatch` would leave the setting deleted.
    with inductor.patch({"cpp.cxx": (None, "/no/such/compiler")}), pytest.raises(UserError) as raised:
        generate(build(), PROMPTS, 5, GREEDY, compile=True)
    assert "torch cannot compile here" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 5), "prompts is empty"),
        (([[1], []], 5), r"prompts\[1\] has no tokens.*start from the end-of-text token"),
        (([[1]], -1), "max_tokens=-1 must be 0 or more"),
        (([[1, VOCAB]], 5), "token ids from 1 to 31, but vocab_size=31"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(build(), *arguments, GREEDY)


def test_nothing_asked_nothing_written():
    assert generate(build(), PROMPTS, 0, GREEDY) == [[], [], [], []]


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(2.0), Sampler(1.0, top_k=3), Sampler(1.0, top_p=0.3, min_p=0.1)])
def test_ids_that_stand_for_nothing_are_never_written(sampler):
    """A model may have more rows than the tokenizer has ids, and its first samples then chose them."""
    model = build()
    never = [id for id in range(VOCAB) if id % 3]
    for text in generate(model, PROMPTS, 30, sampler, never=never):
        assert len(text) == 30
        assert not set(text) & set(never)
    assert generate(model, PROMPTS, 30, sampler) != generate(model, PROMPTS, 30, sampler, never=never)
