"""Random models of many architectures of transformers, read from the files it writes: the same function in float64.

For each architecture, random small configurations and random weights far from initial ones. What transformers saves is
loaded here; logits, loss and all gradients are equal; cached decoding token by token is the full pass; what is exported
from here is loaded by AutoModelForCausalLM and gives the same logits; and reading it back gives the same decoder.
"""

import random

import pytest
import torch
from architecture_draws import DRAWS
from transformers_float64 import EAGER, Float64, load_float64, to_float64

from atomiclm.interop import describe_decoder, differences, load_huggingface, save_huggingface
from atomiclm.interop.huggingface.architectures import ARCHITECTURES, architecture_of
from atomiclm.interop.huggingface.weights import our_tensors, to_theirs
from atomiclm.model import cross_entropy, look

BATCH, TIME = 2, 13


CASES = [
    pytest.param(name, number, id=f"{name}-{number}", marks=[pytest.mark.slow] if number else [])
    for name, (_, count) in DRAWS.items()
    for number in range(count)
]


def random_model(name, number):
    """A model of transformers in float64, with a configuration and weights drawn from its name and number."""
    from transformers import AutoConfig, AutoModelForCausalLM

    draw, _ = DRAWS[name]
    generator = random.Random(f"{name} {number}")
    config = AutoConfig.for_model(name, **draw(generator))
    model = to_float64(AutoModelForCausalLM.from_config(config, **EAGER)).eval()
    numbers = torch.Generator().manual_seed(generator.randrange(1 << 30))
    with torch.no_grad():
        for parameter_name, parameter in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
            if "inv_freq" in parameter_name or "embed_scale" in parameter_name:
                continue
            spread = 0.3 if parameter.ndim == 1 else min(1.0, 1.5 * parameter.shape[-1] ** -0.5)
            is_gain = parameter.ndim == 1 and not parameter_name.endswith("bias") and name != "gemma2"
            noise = torch.randn(parameter.shape, generator=numbers, dtype=torch.float64)
            parameter.copy_(spread * noise + (1.0 if is_gain else 0.0))
    tokens = torch.randint(config.vocab_size, (BATCH, TIME + 1), generator=numbers)
    return model, tokens


def assert_equal(ours, theirs, what, floor=0.0):
    """To 1e-9 of the largest entry; ``floor`` is what counts as an entry at least."""
    error, size = (ours - theirs).abs().max().item(), max(theirs.abs().max().item(), floor)
    assert error <= 1e-9 * size, f"{what}: off by {error / size:.1e}"


@pytest.mark.parametrize(("name", "number"), CASES)
def test_equals_transformers(name, number, tmp_path):
    from transformers.core_model_loading import revert_weight_conversion

    theirs, tokens = random_model(name, number)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, _ = load_huggingface(tmp_path / "theirs", dtype=torch.float64)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    # Logits, loss, every gradient.
    with Float64():
        expected = theirs(tokens, labels=tokens, use_cache=False)
        expected.loss.backward()
    logits = ours(inputs)
    assert expected.logits.dtype == logits.dtype == torch.float64
    assert logits.std() > 0.1, "a comparison of constants would be empty"
    assert_equal(logits, expected.logits[:, :-1], "logits")
    loss = cross_entropy(logits, targets) / targets.numel()
    assert_equal(loss, expected.loss, "loss")
    loss.backward()
    their_gradients = revert_weight_conversion(
        theirs, {key: value.grad for key, value in theirs.named_parameters() if value.grad is not None}
    )
    assert_gradients(architecture_of(name, "here"), ours, their_gradients)

    # Cached decoding, token by token.
    cache = ours.make_cache(BATCH, TIME)
    with torch.no_grad():
        steps = torch.cat([ours(token, cache) for token in inputs.split(1, dim=1)], dim=1)
    assert_equal(steps, logits, "cached decoding")

    # Export, and back by both.
    exported = save_huggingface(ours, tmp_path / "ours")
    loaded = load_float64(tmp_path / "ours")
    with Float64(), torch.no_grad():
        assert_equal(loaded(inputs).logits, logits, f"export as {exported.class_name}")
    back, _ = load_huggingface(tmp_path / "ours", dtype=torch.float64)
    assert differences(describe_decoder(ours), describe_decoder(back)) == {}
    for key, tensor in our_tensors(back).items():
        assert torch.equal(tensor, our_tensors(ours)[key]), key


def assert_gradients(architecture, ours, theirs):
    gradients = {key: parameter.grad for key, parameter in ours.named_parameters()}
    buffers = {key: torch.zeros_like(tensor) for key, tensor in our_tensors(ours).items() if key not in gradients}
    mine = to_theirs(architecture, ours, gradients | buffers)
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    for key, gradient in theirs.items():
        # Of a key's bias the gradient is zero but for rounding: a shift of all scores changes no weight.
        assert_equal(mine[key], gradient, f"gradient of {key}", floor=1e-6 * largest)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("llama", "gemma2", "gpt_oss", "deepseek_v3") else [pytest.mark.slow])
        for name in DRAWS
    ],
)
def test_attention_weights_and_hidden_states_equal_those_of_transformers(name, tmp_path):
    theirs, tokens = random_model(name, 0)
    theirs.save_pretrained(tmp_path)
    ours, _ = load_huggingface(tmp_path, dtype=torch.float64)
    tokens = tokens[:, :TIME]
    with Float64(), torch.no_grad():
        expected = theirs(tokens, use_cache=False, output_attentions=True, output_hidden_states=True)
    seen = look(ours, tokens)
    assert len(seen.attention) == ours.num_layers
    for weights, their_weights in zip(seen.attention, expected.attentions, strict=True):
        assert_equal(weights, their_weights, "attention weights")
    *before, last = seen.hidden
    *their_before, their_last = expected.hidden_states  # the last is after the final norm
    for hidden, their_hidden in zip(before, their_before, strict=True):
        assert_equal(hidden, their_hidden, "hidden states")
    assert_equal(ours.norm(last), their_last, "the last hidden states")
    assert_equal(seen.logits, expected.logits, "logits")


def test_at_least_twelve_architectures():
    assert len({architecture.model_type for architecture in ARCHITECTURES}) >= 12
    assert {architecture.model_type for architecture in ARCHITECTURES} == set(DRAWS)
