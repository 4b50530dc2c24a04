"""Every setting in the files of conf/model does something, and every parameter of every option learns.

The list is made from the files: numbers, truth values, lists of numbers, strings out of a Literal, and nulls. The
other value of a setting is made by a rule or stands in OTHER; where it matters only beside others, these stand in WITH.
"""

import copy
import functools
import itertools
import zlib
from typing import get_args, get_type_hints

import pytest
import torch
import yaml
from small_model import MODEL, groups, model_node

import atomiclm.model
from atomiclm.config.build import build
from atomiclm.model import NextToken, NoAttention

# Weights large enough for everything to matter. Patterns of layers are seen in as many layers.
LARGE = ["model/init=normal", "model.init.std=0.3"]
LAYERS = {"attention/local_global": 6, "position/local_global_theta": 6, "position/nope_every_fourth": 4}
OPTIONS = [f"{group.removeprefix('model/')}/{name}" for group, names in groups().items() for name in names]
COMPONENTS = {"norm", "final_norm"}  # null there is no number
SHARES = {"dropout", "fraction", "rotary_fraction"}  # at most 1
OTHER = {
    "attention_factor": 1.5, "base_fan_in": {"feedforward.down": 16}, "base_head_dim": 6, "dim": 64,
    "head_dim": 6, "hidden_dim": 40, "mscale_all_dim": 0.5, "multiple_of": 48, "num_groups": 4, "num_heads": 8,
    "num_kv_heads": 1, "original_length": 12, "output_bias": True, "query_latent_dim": 20, "rotary_dim": 8,
    "scale": 0.3, "shared_hidden_dim": 24, "window": 5,
}  # fmt: skip
# A ramp of some pairs, whose ends need not be whole ones.
RAMP = {"position.original_length": 4096, "position.truncate": False}
MSCALE = {"position.mscale": 1.0, "position.mscale_all_dim": 1.0}
WITH = {
    "attention/mqa num_kv_heads": {"attention.num_heads": 6},
    "attention/scores/capped cap": {"attention.scores.cap": 1.0},
    "feedforward/moe shared_hidden_dim": {"feedforward.num_shared_experts": 1},
    "feedforward/moe_shared groups_per_token": {"feedforward.router.num_groups": 4},
    "feedforward/swiglu_clamped limit": {"feedforward.limit": 0.5},
    "head/softcap cap": {"head.cap": 3.0},
    "init/fan_in gain": {"init.zero_output": False},
    "init/fan_in head_std": {"tie_embeddings": False},
    "init/mup zero_head": {"tie_embeddings": False},
    "position/dynamic_ntk factor": {"position.original_length": 12},
    "position/yarn beta_fast": RAMP,
    "position/yarn beta_slow": RAMP,
    "position/yarn original_length": RAMP,
    "position/yarn truncate": RAMP,
    "position/yarn mscale": MSCALE,
    "position/yarn mscale_all_dim": MSCALE,
    "tiny context_length": {"position": {"_target_": "atomiclm.model.Llama3Scaling", "_partial_": True, "factor": 4.0}},
}


def settings(node, above=()):
    """(keys, value) of the settings in a file."""
    for key, value in node.items():
        if isinstance(value, dict) and key != "defaults":
            yield from settings(value, (*above, key))
        elif not (
            key in {"_target_", "_partial_", "defaults", *COMPONENTS}
            or value == "???"
            or (isinstance(value, list) and isinstance(value[0], str))
        ):
            yield (*above, key), value


def read(option):
    return yaml.safe_load((MODEL / f"{option}.yaml").read_text(encoding="utf-8"))


KNOBS = {
    **{
        (option, (*option.split("/")[:-1], *keys)): value
        for option in OPTIONS
        for keys, value in settings(read(option))
    },
    **{("tiny", keys): value for keys, value in settings(read("small") | read("tiny"))},
}


@functools.cache
def composed(option):
    """The node of a small model with an option; "tiny" stands for the model itself."""
    chosen = [] if option == "tiny" else ["model/{}={}".format(*option.rsplit("/", 1))]
    large = [] if option.startswith("init/") else LARGE
    return model_node(f"model.num_layers={LAYERS.get(option, 2)}", *large, *chosen)


def at(node, keys):
    return functools.reduce(lambda part, key: part[key], keys, node)


def put(node, keys, value):
    at(node, keys[:-1])[keys[-1]] = value


def another(node, keys):
    """Another value of a setting."""
    name, now = keys[-1], at(node, keys)
    if isinstance(now, bool):
        return not now
    if isinstance(now, list):
        return [type(now[0])(5), *now[1:]]
    if OTHER.get(name, now) != now:
        return OTHER[name]
    if isinstance(now, str):
        component = getattr(atomiclm.model, at(node, keys[:-1])["_target_"].rpartition(".")[2])
        choices = get_args(get_type_hints(component.__init__)[name])
        return next(choice for choice in choices if choice != now)
    if isinstance(now, int):
        return now + 2
    return now / 2 if name in SHARES and now else 0.3 if now == 0 else now * 1.5


def pair(option, keys):
    """The model's node with one value of a setting, and with another."""
    first = copy.deepcopy(composed(option))
    for path, value in WITH.get(f"{option} {keys[-1]}", {}).items():
        put(first, path.split("."), value)
    second = copy.deepcopy(first)
    put(second, keys, another(first, keys))
    return first, second


def built(node):
    """In float64, no gain one and no bias nought: what they do shows."""
    model = build(node).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def drawn(model):
    tokens = torch.randint(model.vocab_size, (2, 25), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1], tokens[:, 1:]


def loss(model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = NextToken()(model.train(), *drawn(model))
        return found.total + sum(found.auxiliary.values())


def seen(model):
    """What a model shows: scores, the loss it trains on, learning rates, and what it keeps after a step."""
    with torch.no_grad():
        scores = model.eval()(drawn(model)[0])
        total = loss(model)
        model.after_step()
    multipliers = torch.tensor([model.lr_multipliers.get(name, 1.0) for name, _ in model.named_parameters()])
    return [scores, total, multipliers, *(buffer.clone() for _, buffer in sorted(model.named_buffers()))]


def differ(one, other):
    """By more than rounding."""
    return len(one) != len(other) or any(
        mine.shape != theirs.shape or (mine - theirs).abs().max() > 1e-9 * mine.abs().max()
        for mine, theirs in zip(one, other, strict=True)
    )


@pytest.mark.one_in(180)
@pytest.mark.parametrize(("option", "keys"), KNOBS, ids=lambda part: part if isinstance(part, str) else ".".join(part))
def test_every_setting_moves_what_the_model_shows(option, keys):
    """Two values in one process, there and back: nothing kept from the first answers for the second."""
    first, second = pair(option, keys)
    before = seen(built(first))
    assert differ(before, seen(built(second)))
    assert all(torch.equal(one, again) for one, again in zip(before, seen(built(first)), strict=True))


# Within 24 tokens a window of 64 hides nothing and a context of 24 needs no stretching; a gain of 1 + w is a gain.
SAME = [
    {"attention/gqa", "attention/local_global", "attention/sliding"},
    {"norm/rmsnorm", "norm/rmsnorm_offset"},
    {"position/dynamic_ntk", "position/rope"},
]


@pytest.mark.one_in(12)
@pytest.mark.parametrize("group", groups())
def test_options_of_a_group_differ(group):
    shown = {}
    for option in (f"{group.removeprefix('model/')}/{name}" for name in groups()[group]):
        node = copy.deepcopy(composed(option))
        put(node, ("num_layers",), 6)
        shown[option] = seen(built(node))
    for one, other in itertools.combinations(shown, 2):
        assert differ(shown[one], shown[other]) != any({one, other} <= same for same in SAME), (one, other)


WEIGHING = [option for option in OPTIONS if option.startswith(("attention/", "block/")) and option != "attention/none"]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("option", WEIGHING)
def test_attention_weights_are_dropped_in_training(option):
    """The setting reaches every kind of attention, of scores and of block, and nothing else drops."""
    node = copy.deepcopy(composed(option))
    put(node, ("attention", "dropout"), 0.3)
    dropping, whole = built(node), built(composed(option))
    with torch.no_grad():
        assert torch.equal(dropping.eval()(drawn(whole)[0]), whole.eval()(drawn(whole)[0]))
        assert differ([loss(dropping)], [loss(whole)])


# Options as they are, and with every switch turned and every null filled, which may add parameters.
LEARNING = [(option, ()) for option in OPTIONS] + [
    knob for knob, value in KNOBS.items() if isinstance(value, bool | None)
]


@pytest.mark.one_in(20)
@pytest.mark.parametrize(
    ("option", "keys"), LEARNING, ids=lambda part: part if isinstance(part, str) else ".".join(part)
)
def test_every_parameter_gets_a_gradient(option, keys):
    model = built(pair(option, keys)[1] if keys else composed(option))
    if option.startswith("init/"):  # outputs that start at zero hold back what is before them
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.2)
    loss(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        share = (parameter.grad != 0).double().mean()
        if isinstance(model.blocks[0].attention, NoAttention) and name.endswith("attention_norm.weight"):
            assert share == 0, name
        else:
            assert share > 0.5, name
