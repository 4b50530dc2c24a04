"""Muon and Adafactor equal torch's step by step; what Muon leaves to AdamW equals torch.optim.AdamW."""

import importlib

import pytest
import torch
from torch import nn

from atomiclm.optim import Adafactor, Muon
from atomiclm.optim.muon import orthogonalized

torch_muon = importlib.import_module("torch.optim._muon")
SHAPES = {
    "a": (4, 4),
    "b": (3, 7),
    "c": (9, 2),
    "d": (16, 5),
    "e": (3, 7),
    "f": (3, 7),
}  # some alike: Muon takes them in one batch


def _pairs(dtype: torch.dtype, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    ours = [(n, nn.Parameter(torch.randn(s, generator=generator, dtype=dtype))) for n, s in shapes.items()]
    return ours, [nn.Parameter(p.detach().clone()) for _, p in ours]


def _one(step):
    return 1.0


def _drive(ours, theirs, optimizer, reference, steps, dtype, compare, rate=_one, size=_one):
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        for group in [*optimizer.param_groups, *reference.param_groups]:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * rate(step)
        for (_, mine), other in zip(ours, theirs, strict=True):
            mine.grad = size(step) * torch.randn(mine.shape, generator=generator, dtype=dtype)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
        for (name, mine), other in zip(ours, theirs, strict=True):
            compare(mine, other, f"{name} after step {step + 1}")


def _exact(mine, other, where):
    torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-12, msg=where)


def _float64_newton_schulz(gradient, coefficients, steps, eps):
    """torch's own iteration with its cast to bfloat16 undone."""
    a, b, c = coefficients
    x = gradient.T if gradient.size(0) > gradient.size(1) else gradient
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if gradient.size(0) > gradient.size(1) else x


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
@pytest.mark.parametrize(("momentum", "weight_decay", "steps"), [(0.95, 0.1, 5), (0.8, 0.0, 3)])
def test_muon_in_float64(monkeypatch, nesterov, adjust_lr, momentum, weight_decay, steps):
    monkeypatch.setattr(torch_muon, "_zeropower_via_newtonschulz", _float64_newton_schulz)
    ours, theirs = _pairs(torch.float64)
    optimizer = Muon(ours, dict.fromkeys(SHAPES, "matrix"), lr=0.02, momentum=momentum, nesterov=nesterov,
                     weight_decay=weight_decay, adjust_lr=adjust_lr, newton_schulz_steps=steps)  # fmt: skip
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay,
                                 adjust_lr_fn=adjust_lr, ns_steps=steps)  # fmt: skip
    _drive(ours, theirs, optimizer, reference, 8, torch.float64, _exact, lambda step: 1 / (1 + step))


def test_muon_as_published_in_bfloat16(monkeypatch):
    monkeypatch.setattr("atomiclm.optim.muon.has_native_bfloat16", lambda device: True)
    ours, theirs = _pairs(torch.float32)
    optimizer = Muon(ours, dict.fromkeys(SHAPES, "matrix"), lr=0.02)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)

    def compare(mine, other, where):
        # The same products in bfloat16, whose steps are 0.4 % of a value: eight updates of at most 0.02 * 1.8 each.
        torch.testing.assert_close(mine, other, rtol=0, atol=8 * 0.036 * 0.01, msg=where)

    _drive(ours, theirs, optimizer, reference, 8, torch.float32, compare)


def test_what_muon_leaves_equals_torchs_adamw():
    ours, theirs = _pairs(torch.float64)
    optimizer = Muon(ours, dict.fromkeys(SHAPES, "embedding"), lr=0.5, adamw_lr=0.01, adamw_betas=(0.7, 0.9),
                     adamw_eps=1e-4, weight_decay=0.3, decayed_roles=["embedding"])  # fmt: skip
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=(0.7, 0.9), eps=1e-4, weight_decay=0.3)
    _drive(ours, theirs, optimizer, reference, 8, torch.float64, _exact)


def test_orthogonalized_keeps_the_singular_vectors_and_moves_the_values_near_one():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalized(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    inner = left.T @ result @ right.T
    torch.testing.assert_close(inner, torch.diag(torch.diagonal(inner)), rtol=0, atol=1e-9)
    assert values.max() / values.min() > 2
    assert 0.68 < float(torch.diagonal(inner).min()) <= float(torch.diagonal(inner).max()) < 1.21
    torch.testing.assert_close(orthogonalized(matrix.T, (3.4445, -4.7750, 2.0315), 5, 1e-7), result.T)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize(("decay_exponent", "clip_threshold", "least_scale"), [(0.8, 1.0, 1e-3), (0.5, 1.2, 2.0)])
def test_adafactor_in_float64(weight_decay, decay_exponent, clip_threshold, least_scale):
    """torch clips its estimate at eps^2 instead of adding eps to the square; at 1e-30 neither is seen in float64."""
    shapes = {**SHAPES, "vector": (5,)}
    ours, theirs = _pairs(torch.float64, shapes)
    settings = {"decay_exponent": decay_exponent, "clip_threshold": clip_threshold, "least_scale": least_scale}
    optimizer = Adafactor(ours, dict.fromkeys(shapes, "matrix"), lr=0.02, weight_decay=weight_decay, **settings)
    reference = torch.optim.Adafactor(theirs, lr=0.02, beta2_decay=-decay_exponent, eps=(1e-30, least_scale),
                                      d=clip_threshold, weight_decay=weight_decay)  # fmt: skip
    _drive(ours, theirs, optimizer, reference, 12, torch.float64, _exact, size=lambda step: 1 + step**2)
