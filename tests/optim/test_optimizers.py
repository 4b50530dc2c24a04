"""Laws that hold for every optimizer: groups by role, memory as stated, state that comes back, experts as matrices."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from optim.settings import OPTIMIZERS, ROLES, SHAPES, built, give_gradients, parameters
from torch import nn

import atomiclm.optim
from atomiclm.optim import Adafactor, AdamW, Lion, Muon, RoleOptimizer, ScheduleFreeAdamW
from atomiclm.optim.muon import orthogonalized

CONF = Path(__file__).parents[2] / "conf" / "optim"
EVERY = pytest.mark.parametrize("name", OPTIMIZERS)


def _after(name: str, steps: int = 5, seed: int = 0, **settings) -> dict[str, torch.Tensor]:
    named = parameters(seed=seed)
    optimizer = built(name, named, **settings)
    for step in range(steps):
        give_gradients(named, step)
        optimizer.step()
    return {n: p.detach() for n, p in named}


@EVERY
def test_memory_is_what_state_elements_says(name):
    named = parameters(torch.float32)
    optimizer = built(name, named)
    give_gradients(named, 0, torch.float32)
    optimizer.step()
    kind, settings = OPTIMIZERS[name]
    for n, parameter in named:
        held = sum(value.numel() for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor))
        assert kind.state_elements(tuple(parameter.shape), ROLES[n], settings) == held, n


@EVERY
def test_memory_stays_what_it_is_after_the_first_step(name):
    named = parameters()
    optimizer = built(name, named)
    sizes = []
    for step in range(4):
        give_gradients(named, step)
        optimizer.step()
        sizes.append([v.numel() for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)])
    assert sizes[0] == sizes[-1]


@EVERY
def test_groups_follow_role_and_multiplier(name):
    named = parameters()
    more = {"adamw_lr": 0.1} if name.startswith("muon") else {}
    multipliers = {"block.wide": 0.5, "block.out": 2.0}
    optimizer = built(name, named, lr=0.1, weight_decay=0.5, lr_scales={"embedding": 0.2}, lr_multipliers=multipliers,
                      **more)  # fmt: skip
    found = {n: (g["role"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups for n in g["names"]}
    expected = {
        "embedding.weight": ("embedding", 0.02, 0.0),
        "block.wide": ("matrix", 0.05, 0.5),
        "block.tall": ("matrix", 0.1, 0.5),
        "block.experts": ("matrix", 0.1, 0.5),
        "block.out": ("residual", 0.2, 0.5),
        "norm.gain": ("gain", 0.1, 0.0),
        "block.bias": ("bias", 0.1, 0.0),
    }
    assert found == {n: (role, pytest.approx(lr), decay) for n, (role, lr, decay) in expected.items()}


@EVERY
def test_a_multiplier_is_a_learning_rate(name):
    more = {"adamw_lr": 0.01} if name.startswith("muon") else {}
    plain = _after(name, lr=0.005, **({"adamw_lr": 0.005} if more else {}))
    multiplied = _after(name, lr=0.01, lr_multipliers=dict.fromkeys(SHAPES, 0.5), **more)
    for n in SHAPES:
        torch.testing.assert_close(multiplied[n], plain[n], rtol=1e-12, atol=1e-14, msg=n)


@EVERY
def test_experts_are_matrices_of_their_own(name):
    """A weight of (experts, out, in) moves as its slices would as separate parameters."""
    together = parameters()
    apart = [
        (f"{n}{i}", nn.Parameter(piece.detach().clone()))
        for n, p in together
        for i, piece in enumerate(p.detach() if n == "block.experts" else [p])
    ]
    roles = {n: ROLES[n.rstrip("0123456789")] for n, _ in apart}
    kind, settings = OPTIMIZERS[name]
    whole, pieces = built(name, together), kind(apart, roles, **settings, lr=0.01)
    for step in range(6):
        give_gradients(together, step)
        gradients = [g for n, p in together for g in (p.grad if n == "block.experts" else [p.grad])]
        for (_, parameter), gradient in zip(apart, gradients, strict=True):
            parameter.grad = gradient.clone()
        whole.step()
        pieces.step()
    slices = [s for n, p in together for s in (p.detach() if n == "block.experts" else [p.detach()])]
    for (n, mine), other in zip(apart, slices, strict=True):
        torch.testing.assert_close(mine.detach(), other, rtol=1e-9, atol=1e-11, msg=n)


@EVERY
def test_state_that_is_saved_and_loaded_goes_on_to_the_last_bit(name):
    whole = _after(name, steps=7)
    named = parameters()
    optimizer = built(name, named)
    for step in range(7):
        if step == 4:
            saved = optimizer.state_dict()
            named = [(n, nn.Parameter(p.detach().clone())) for n, p in named]
            optimizer = built(name, named)
            optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})
        give_gradients(named, step)
        optimizer.step()
    for n, parameter in named:
        assert torch.equal(parameter, whole[n]), n


@EVERY
def test_a_parameter_without_a_gradient_is_left_alone(name):
    named = parameters()
    optimizer = built(name, named)
    before = named[0][1].detach().clone()
    give_gradients(named, 0)
    named[0][1].grad = None
    optimizer.step()
    optimizer.step()
    assert torch.equal(named[0][1], before)
    assert not torch.equal(named[1][1], parameters()[1][1])


SECOND_VALUES = {
    "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.7, "decayed_roles": ["gain"], "lr_scales": {"matrix": 0.3},
    "momentum": 0.5, "nesterov": False, "newton_schulz_steps": 2, "newton_schulz_coefficients": (2.0, -1.5, 0.5),
    "adjust_lr": "match_rms_adamw", "orthogonalized_roles": ["matrix"], "adamw_lr": 0.2, "adamw_betas": (0.5, 0.5),
    "adamw_eps": 0.1, "refresh_every_steps": 1, "largest_side": 5, "decay_exponent": 0.4, "least_scale": 3.0,
    "clip_threshold": 0.5, "scale_by_weight": False, "lr": 0.02,
}  # fmt: skip
BASE = {"eps": {"muon": 100.0, "adafactor": 1.0}}  # where the common second value is far below what it is added to
KNOBS = [
    (name, argument)
    for name in ("adamw", "muon", "lion", "soap", "adafactor", "schedule-free")
    for argument, parameter in inspect.signature(OPTIMIZERS[name][0]).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
]


@pytest.mark.parametrize(("name", "argument"), KNOBS)
def test_every_knob_changes_what_is_learned_and_is_an_attribute(name, argument):
    value = BASE.get(argument, {}).get(name, SECOND_VALUES[argument])
    plain, changed = _after(name), _after(name, **{argument: value})
    assert any(not torch.equal(plain[n], changed[n]) for n in SHAPES)
    assert getattr(built(name, parameters(), **{argument: value}), argument) == value


def test_muon_orthogonalizes_weights_of_one_shape_in_one_batch_as_it_does_each_alone(monkeypatch):
    roles = {"one": "matrix", "other": "residual", "sometimes": "matrix", "experts": "matrix", "tall": "matrix"}
    shapes = {"one": (4, 6), "other": (4, 6), "sometimes": (4, 6), "experts": (2, 4, 6), "tall": (6, 4)}
    generator = torch.Generator().manual_seed(0)
    whole = {n: nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for n, s in shapes.items()}
    alone = {n: nn.Parameter(p.detach().clone()) for n, p in whole.items()}
    settings = {"lr": 0.05, "lr_scales": {"residual": 0.3}, "decayed_roles": ["matrix"]}
    together = Muon(whole.items(), roles, {"other": 0.5}, **settings)
    apart = [Muon([(n, p)], roles, {"other": 0.5} if n == "other" else None, **settings) for n, p in alone.items()]
    batches = []

    def noted(matrices, *rest):
        batches.append(tuple(matrices.shape))
        return orthogonalized(matrices, *rest)

    for step in range(4):
        for name in shapes:
            gradient = torch.randn(shapes[name], generator=generator, dtype=torch.float64)
            for named in (whole, alone):
                named[name].grad = None if name == "sometimes" and step == 2 else gradient.clone()
        with monkeypatch.context() as patched:
            patched.setattr("atomiclm.optim.muon.orthogonalized", noted)
            together.step()
        for optimizer in apart:
            optimizer.step()
        for name in shapes:
            torch.testing.assert_close(whole[name], alone[name], rtol=1e-11, atol=1e-13, msg=name)
    every, without = [(3, 4, 6), (1, 2, 4, 6), (1, 6, 4)], [(2, 4, 6), (1, 2, 4, 6), (1, 6, 4)]
    assert batches == [*every, *every, *without, *every]


@pytest.mark.parametrize("native", [True, False])
def test_muon_takes_float32_where_bfloat16_is_not_native(monkeypatch, native):
    monkeypatch.setattr("atomiclm.optim.muon.has_native_bfloat16", lambda device: native)
    matrices = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    settings = ((3.4445, -4.7750, 2.0315), 5, 1e-7)
    found, exact = orthogonalized(matrices, *settings), orthogonalized(matrices.double(), *settings)
    assert found.dtype == (torch.bfloat16 if native else torch.float32)
    assert (1e-3 < (found - exact).abs().max() < 0.1) if native else ((found - exact).abs().max() < 1e-5)


def test_every_optimizer_has_an_option_that_names_all_its_knobs():
    options = {}
    for path in CONF.glob("*.yaml"):
        node = yaml.safe_load(path.read_text())
        options[node.pop("_target_").rpartition(".")[2]] = node
    kinds = {k for k in atomiclm.optim.__all__ if isinstance(getattr(atomiclm.optim, k), type)}
    kinds = {k for k in kinds if issubclass(getattr(atomiclm.optim, k), RoleOptimizer)} - {"RoleOptimizer"}
    assert set(options) == kinds
    for name, node in options.items():
        signature = inspect.signature(getattr(atomiclm.optim, name)).parameters.values()
        knobs = {parameter.name for parameter in signature if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
        assert set(node) - {"_partial_"} == knobs, name


def test_a_schedule_free_average_is_the_weighted_mean_of_the_iterates():
    """x_t = sum of r_i^2 z_{i+1} / sum of r_i^2, whatever the learning rates were."""
    named = parameters()
    optimizer = built("schedule-free", named, betas=(0.8, 0.99), weight_decay=0.1)
    sums = {n: torch.zeros_like(p) for n, p in named}
    total = 0.0
    for step in range(9):
        lr = 0.1 * (step + 1) / 4 if step < 3 else 0.1
        for group in optimizer.param_groups:
            group["lr"] = lr
        give_gradients(named, step)
        optimizer.step()
        weight = (lr * (1 - 0.99 ** (step + 1)) ** 0.5) ** 2
        total += weight
        for n, parameter in named:
            sums[n] += weight * optimizer.state[parameter]["iterate"]
    for n, average in optimizer.averaged_weights().items():
        torch.testing.assert_close(average, sums[n] / total, rtol=1e-9, atol=1e-11, msg=n)


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (Muon, {"momentum": 1.0}, "momentum"),
        (Muon, {"newton_schulz_steps": 0}, "newton_schulz_steps"),
        (Muon, {"newton_schulz_coefficients": (3.4, -4.8)}, "newton_schulz_coefficients"),
        (Muon, {"adamw_lr": 0.0}, "adamw_lr"),
        (Muon, {"orthogonalized_roles": ["matrix", "gain"]}, "gain"),
        (Muon, {"adjust_lr": "none"}, "adjust_lr"),
        (Lion, {"betas": (0.9, 1.0)}, "betas"),
        (Lion, {"betas": (0.9, 0.9, 0.9)}, "betas"),
        (Adafactor, {"clip_threshold": 0.0}, "clip_threshold"),
        (atomiclm.optim.SOAP, {"refresh_every_steps": 0}, "refresh_every_steps"),
        (ScheduleFreeAdamW, {"betas": (0.0, 0.9)}, "betas"),
        (AdamW, {"lr_scales": {"matrices": 1.0}}, "lr_scales"),
        (AdamW, {"lr_multipliers": {"nothing": 1.0}}, "lr_multipliers"),
    ],
)
def test_bad_settings_name_the_argument(kind, setting, message):
    with pytest.raises(ValueError, match=message):
        kind(parameters(), ROLES, **setting)
