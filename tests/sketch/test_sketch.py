"""The stand-in of torch counts what torch counts, for every option, and leaves no trace."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atomiclm.config.build import build
from atomiclm.config.compose import compose, resolved

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "conf" / "model"

COUNT = """
import json, sys
from atomiclm.config.compose import compose, resolved
from atomiclm.config.counting import cost_of, decoder, on_shapes
found = {}
for text in json.loads(sys.argv[1]):
    values = resolved(compose(json.loads(text)))
    def count():
        made, length = decoder(values["model"]), values["model"]["context_length"]
        shapes = {name: list(parameter.shape) for name, parameter in made.named_parameters()}
        return [shapes, made.num_parameters_by_role(), made.flops_per_token(), made.cache_bytes(length),
                made.activation_bytes(2), made.training_flops_per_token(), made.num_active_parameters()]
    found[text] = [*on_shapes(count), cost_of(values).memory_bytes]
    assert "torch" not in sys.modules, text
print(json.dumps(found))
"""


def options() -> list[str]:
    """Overrides for every option of every group of the model, and for every size and preset."""
    found = []
    for path in sorted(MODEL.rglob("*.yaml")):
        group = path.parent.relative_to(MODEL.parent).as_posix()
        found.append(json.dumps([f"{group}={path.stem}"]))
    return found


def in_a_process(code, *arguments, cwd=ROOT):
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sketched():
    return json.loads(in_a_process(COUNT, json.dumps(options())))


@pytest.mark.slow
@pytest.mark.parametrize("overrides", options())
def test_counts_what_torch_counts(overrides, sketched):
    values = resolved(compose(json.loads(overrides)))
    with torch.device("meta"):
        decoder = build(values["model"])
    shapes, roles, flops, cache, activations, training, active, memory = sketched[overrides]
    assert shapes == {name: list(parameter.shape) for name, parameter in decoder.named_parameters()}
    assert roles == decoder.num_parameters_by_role()
    assert sum(roles.values()) == sum(parameter.numel() for parameter in decoder.parameters())
    assert flops == decoder.flops_per_token()
    assert cache == decoder.cache_bytes(decoder.context_length)
    assert activations == decoder.activation_bytes(2)
    assert training == decoder.training_flops_per_token()
    assert active == decoder.num_active_parameters()
    assert memory > 8 * sum(roles.values())


@pytest.mark.slow
def test_leaves_no_trace():
    """Before, between and after sketches every module is what it was, and torch comes as itself."""
    in_a_process("""
import sys
import atomiclm.model
from atomiclm.sketch import sketching
before = dict(sys.modules)
for _ in range(2):
    with sketching():
        from atomiclm.model import Decoder
        sketch = Decoder(50, 16, 2, 8)
        assert sketch.num_parameters() == 7536, sketch.num_parameters()
    assert {name: module for name, module in sys.modules.items() if name in before} == before
    assert not any(name.split(".")[0] == "torch" for name in sys.modules)
    assert not any(name.startswith("atomiclm.model.") for name in sys.modules.keys() - before.keys())
assert atomiclm.model is before["atomiclm.model"]
from atomiclm.model import Decoder as Real
assert Real is not Decoder
import torch
real = Real(50, 16, 2, 8)
assert real.num_parameters() == 7536 and real(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 50)
try:
    with sketching():
        raise SystemExit("torch was replaced")
except RuntimeError:
    pass
""")


COMPONENT = """
import torch
from torch import nn
from torch.nn import functional as F
from atomiclm.model.accounting import Accounted, matmul_flops

class Odd(Accounted):
    activation = F.gelu
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        {extra}
        self.register_buffer("table", torch.arange(dim) / dim + 1)
        self.inner = nn.Linear(dim, hidden_dim)
        self.outer = nn.Sequential(nn.GELU(), nn.Linear(hidden_dim, dim))
    def forward(self, hidden):
        return self.outer(self.inner(hidden))
    def flops_per_token(self, context_length: int) -> int:
        return matmul_flops(self.inner, self.outer[1])
"""


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("extra", "needs_torch"), [("pass", False), ("self.basis = torch.linalg.qr(torch.rand(dim, dim))[0]", True)]
)
def test_a_component_nobody_has_seen_is_counted(extra, needs_torch, tmp_path):
    """On the stand-in if it only makes modules, else on torch's own meta device."""
    (tmp_path / "odd_part.py").write_text(COMPONENT.format(extra=extra))
    code = f"""
import os, sys
os.environ["ATOMICLM_TRUST"] = "odd_part"
sys.path.insert(0, "")
from atomiclm.config.compose import compose, resolved
from atomiclm.config.counting import decoder, on_shapes
values = resolved(compose(["model=tiny"]))
values["model"]["feedforward"] = {{"_target_": "odd_part.Odd", "_partial_": True, "hidden_dim": 10}}
size = on_shapes(lambda: sum(p.numel() for p in decoder(values["model"]).blocks[0].feedforward.parameters()))
assert size == 2 * 64 * 10 + 10 + 64
assert ("torch" in sys.modules) is {needs_torch}
assert ("odd_part" in sys.modules) is {needs_torch}
"""
    in_a_process(code, cwd=tmp_path)


def test_a_forward_pass_is_refused_not_faked():
    in_a_process("""
from atomiclm.sketch import SketchError, sketching
with sketching():
    import torch
    from torch import nn
    layer = nn.Linear(3, 4)
    for wrong in (lambda: layer(torch.zeros(2, 3)), lambda: torch.zeros(2) @ torch.zeros(2),
                  lambda: torch.linalg.svd(torch.zeros(2, 2)), lambda: torch.zeros(3).sum()):
        try:
            wrong()
        except (SketchError, TypeError):
            continue
        raise AssertionError("computed with numbers that are not there")
    assert (torch.zeros(4, 1) + torch.ones(3) * 2).shape == (4, 3)
""")


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ValueError", "TypeError", "AttributeError"])
def test_a_constructor_that_fails_on_the_stand_in_is_not_taken_for_sound(error, tmp_path):
    """The stand-in may not know enough; torch itself then shows that the constructor is wrong."""
    (tmp_path / "odd_objective.py").write_text(
        f"from torch import nn\nclass Odd:\n    def __init__(self):\n        raise {error}('not like this')\n"
    )
    in_a_process(
        """
import os, sys
os.environ["ATOMICLM_TRUST"] = "odd_objective"
sys.path.insert(0, "")
from atomiclm.config.compose import compose, resolved, root_keys
from atomiclm.config.errors import ConfigError
from atomiclm.config.validate import validate
config = resolved(compose(["model=tiny"]))
config["trainer"]["objective"] = {"_target_": "odd_objective.Odd"}
try:
    validate(config, root_keys())
except ConfigError as error:
    assert "trainer.objective: " in str(error) and "not like this" in str(error), error
else:
    raise AssertionError("validated")
""",
        cwd=tmp_path,
    )


@pytest.mark.slow
def test_every_shipped_component_is_made_without_torch():
    """Validation makes an optimizer, a trainer and its parts; none of the shipped ones needs the import of torch."""
    groups = ("optim", "schedule", "trainer/order", "trainer/objective", "trainer/bad_steps", "trainer/spikes",
              "trainer/weight_average")  # fmt: skip
    shipped = [f"{group}={path.stem}" for group in groups for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
    in_a_process(
        """
import json, sys
from atomiclm.config.compose import compose, resolved, root_keys
from atomiclm.config.validate import validate
for option in json.loads(sys.argv[1]):
    validate(resolved(compose(["model=tiny", option])), root_keys())
    assert "torch" not in sys.modules, option
""",
        json.dumps(shipped),
    )
