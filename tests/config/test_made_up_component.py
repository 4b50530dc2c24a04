"""A component nobody here has heard of takes one class and one YAML file, nothing else, and the user's word."""

import pytest
from cli import run

CLASS = '''
from torch import nn

from atomiclm.model import ResidualLinear
from atomiclm.model.accounting import Accounted


class Sine(Accounted):
    """down(sin(frequency * up(x)))"""

    def __init__(self, dim: int, hidden_dim: int, frequency: float = 1.0) -> None:
        super().__init__()
        if frequency <= 0:
            raise ValueError(f"frequency={frequency} must be greater than 0")
        self.frequency = frequency
        self.up = nn.Linear(dim, hidden_dim, bias=False)
        self.down = ResidualLinear(hidden_dim, dim, bias=False)

    def forward(self, hidden):
        return self.down((self.frequency * self.up(hidden)).sin())

    def flops_per_token(self, context_length: int) -> int:
        return 2 * (self.up.weight.numel() + self.down.weight.numel())
'''

OPTION = """_target_: sine_part.Sine
_partial_: true
hidden_dim: 40
frequency: 2.0
"""


@pytest.mark.slow
def test_trains_plans_sweeps_and_is_checked(tmp_path, monkeypatch):
    (tmp_path / "sine_part.py").write_text(CLASS)
    option = tmp_path / "mine" / "model" / "feedforward" / "sine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(OPTION)
    text = tmp_path / "text.txt"
    text.write_text("a word and another word. " * 400)
    chosen = ["--config-dir", "mine", "model=tiny", "model/feedforward=sine", "tokenizer=bytes", "data=text",
              "data.path=text.txt"]  # fmt: skip
    untrusted = run(tmp_path, "plan", *chosen)
    assert untrusted.returncode == 2
    assert "model.feedforward._target_" in untrusted.stderr
    assert "ATOMICLM_TRUST=sine_part" in untrusted.stderr

    monkeypatch.setenv("ATOMICLM_TRUST", "sine_part")  # which the commands below inherit
    trained = run(tmp_path, "train", *chosen, "debug=one_step", "tracking=off")
    assert trained.returncode == 0, trained.stdout + trained.stderr

    planned = run(tmp_path, "plan", "-m", *chosen, "model.feedforward.hidden_dim=40,80")
    assert planned.returncode == 0, planned.stderr
    assert "2 arms" in planned.stdout
    # The larger has 2 layers x 2 matrices x 64 x 40 more.
    base = 257 * 64 + 64 + 2 * (64 * 64 * 2 + 2 * 64 * 32 + 2 * 64)
    assert f"{base + 2 * 2 * 64 * 40:,}" in planned.stdout
    assert f"{base + 2 * 2 * 64 * 80:,}" in planned.stdout

    solved = run(tmp_path, "plan", *chosen, "match=parameters", "match.baseline=['model/feedforward=swiglu']")
    assert solved.returncode == 0, solved.stderr
    assert "hidden_dim=264 matches parameters" in solved.stdout  # 3/2 of SwiGLU's 176

    typo = run(tmp_path, "train", *chosen, "+model.feedforward.frequncy=3")
    assert typo.returncode == 2
    assert "did you mean 'frequency'" in typo.stderr
    wrong = run(tmp_path, "train", *chosen, "model.feedforward.frequency=-1")
    assert wrong.returncode == 2
    assert "model.feedforward.frequency: frequency=-1.0 must be greater than 0" in wrong.stderr


@pytest.mark.slow
def test_an_attention_that_lacks_a_member_is_a_fault_with_the_members_meaning(tmp_path, monkeypatch):
    (tmp_path / "headless_part.py").write_text(
        "from atomiclm.model import MultiHeadAttention\n\n\n"
        "class Headless(MultiHeadAttention):\n"
        "    def __init__(self, dim: int, num_heads: int) -> None:\n"
        "        super().__init__(dim, num_heads)\n"
        "        del self.head_dim\n"
    )
    option = tmp_path / "mine" / "model" / "attention" / "headless.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("_target_: headless_part.Headless\n_partial_: true\n")
    monkeypatch.setenv("ATOMICLM_TRUST", "headless_part")
    told = run(tmp_path, "plan", "--quiet", "--config-dir", "mine", "model=tiny", "model/attention=headless")
    assert told.returncode == 2
    assert told.stderr.splitlines() == [
        "The configuration has 1 fault:",
        "  model.attention: Headless lacks members of Attention that a model needs:",
        "      head_dim: Width of the vectors that the position scheme rotates",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mixed", "status", "said"),
    [
        ("hidden.mean(1, keepdim=True)", 2, "model: scores of a token change with the tokens that follow it"),
        ("nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1]", 0, "with its cache, the model scores otherwise"),
        ("hidden", 0, None),
    ],
)
def test_a_part_that_sees_later_tokens_is_refused_and_one_without_its_cache_is_noted(
    tmp_path, monkeypatch, mixed, status, said
):
    (tmp_path / "mixing_part.py").write_text(CLASS.replace("(hidden)).sin", f"({mixed}) + hidden[..., :1]).sin"))
    option = tmp_path / "mine" / "model" / "feedforward" / "sine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(OPTION.replace("sine_part", "mixing_part"))
    (tmp_path / "text.txt").write_text("a word and another word. " * 400)
    monkeypatch.setenv("ATOMICLM_TRUST", "mixing_part")
    done = run(
        tmp_path, "train", "--config-dir", "mine", "model=tiny", "model/feedforward=sine", "tokenizer=bytes",
        "data=text", "data.path=text.txt", "debug=one_step", "tracking=off",
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert done.returncode == status, printed
    if said is None:
        assert "scores" not in printed
    else:
        assert said in printed


def test_a_slip_in_an_options_yaml_is_said_with_its_line(tmp_path):
    option = tmp_path / "mine" / "model" / "feedforward" / "sine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("_target_: sine_part.Sine\n  _partial_: true\n")
    done = run(tmp_path, "plan", "--quiet", "--config-dir", "mine", "model/feedforward=sine")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "The configuration has 1 fault:",
        "  config: sine.yaml, line 2, column 12: mapping values are not allowed here; fix its YAML",
    ]
