"""AdamW equals torch.optim.AdamW step by step."""

import pytest
import torch

from atomiclm.optim import AdamW

NAMES = ("embedding.weight", "block.matrix", "block.out", "norm.gain")
ROLES = dict(zip(NAMES, ("embedding", "matrix", "residual", "gain"), strict=True))
SHAPES = ((7, 4), (4, 4), (4, 5), (4,))


def _parameters(dtype: torch.dtype) -> list[tuple[str, torch.nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (name, torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)))
        for name, shape in zip(NAMES, SHAPES, strict=True)
    ]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.8, 0.999)])
def test_equals_torch_step_by_step(betas, weight_decay):
    ours, theirs = _parameters(torch.float64), _parameters(torch.float64)
    optimizer = AdamW(ours, ROLES, lr=1e-2, betas=betas, eps=1e-6, weight_decay=weight_decay)
    decayed = [p for n, p in theirs if ROLES[n] in ("matrix", "residual")]
    others = [p for n, p in theirs if ROLES[n] not in ("matrix", "residual")]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=betas, eps=1e-6)
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        for group in [*optimizer.param_groups, *reference.param_groups]:
            group["lr"] = 1e-2 / (1 + step)
        for (_, mine), (_, other) in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator, dtype=torch.float64)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
        for (name, mine), (_, other) in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-13, msg=f"{name} after step {step + 1}")


def test_groups_follow_the_roles():
    optimizer = AdamW(_parameters(torch.float32), ROLES, lr=0.1, weight_decay=0.5, lr_scales={"embedding": 0.2})
    by_role = {group["role"]: group for group in optimizer.param_groups}
    assert list(by_role) == ["embedding", "matrix", "residual", "gain"]
    assert by_role["embedding"]["lr"] == pytest.approx(0.02)
    assert by_role["gain"]["lr"] == pytest.approx(0.1)
    assert [by_role[role]["weight_decay"] for role in by_role] == [0.0, 0.5, 0.5, 0.0]


def test_a_parameter_without_a_role_is_refused():
    with pytest.raises(ValueError, match=r"block\.matrix"):
        AdamW(_parameters(torch.float32), {name: role for name, role in ROLES.items() if name != "block.matrix"})


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"lr": -1.0}, "lr"), ({"betas": (0.9, 1.0)}, "betas"), ({"decayed_roles": ["matrices"]}, "decayed_roles")],
)
def test_bad_settings_name_the_argument(setting, message):
    with pytest.raises(ValueError, match=message):
        AdamW(_parameters(torch.float32), ROLES, **setting)
