"""What is permitted and probably not meant is told with its numbers, once, by `plan` and by `train`."""

import pytest
from cli import TINY, corpus, run

from atomiclm.config.compose import compose, resolved
from atomiclm.config.validate import cautions

SHORT = "trainer.max_steps=20"


def _told(*overrides: str) -> list[str]:
    return list(cautions([("run", resolved(compose(overrides)))]))


def test_a_budget_shorter_than_the_warmup_is_told_with_its_numbers():
    [told] = _told(SHORT, "schedule.warmup_steps=50", "optim=adamw", "optim.lr=3e-3")
    assert told == (
        "warning: schedule.warmup_steps: the run has 20 steps and the warmup 50, so the learning rate reaches 39% of "
        "its peak (0.00118 of 0.003); give a larger budget, or schedule.warmup_steps=2"
    )


@pytest.mark.parametrize("budget", [
    "trainer.max_tokens=81_920", "trainer.max_steps=40", "trainer.max_steps=50",  # 40 steps of 8 windows of 256 tokens
])  # fmt: skip
def test_the_budget_may_be_in_tokens_and_as_long_as_the_warmup(budget):
    [told] = _told(budget, "trainer.batch_size=8", "model.context_length=256", "schedule.warmup_steps=50")
    assert told.startswith("warning: schedule.warmup_steps: the run has")


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("overrides", "path", "part"), [
    (["optim.lr=3"], "optim.lr", "3, 100 times above the usual range, 1e-4 to 3e-2"),
    (["optim.lr=1e-6"], "optim.lr", "1e-06, 100 times below the usual range"),
    (["optim=muon", "optim.adamw_lr=1"], "optim.adamw_lr", "100 times above the usual range, 1e-4 to 1e-2"),
    (["optim=adamw", "optim.lr=3e-3", "optim.lr_scales.head=1e3"], "optim.lr_scales.head", "a learning rate of 3, 100"),
    (["optim=lion", "optim.lr=1"], "optim.lr", "33.3 times above"),
    (["schedule=cosine", "schedule.horizon_steps=100"], "schedule.horizon_steps", "is 0 from step 100 on"),
    (["schedule=wsd", "schedule.horizon_steps=100"], "schedule.horizon_steps", "and the run has 200 steps"),
    (["schedule=wsd", "schedule.decay_fraction=null", "schedule.decay_steps=180"], "schedule.decay_steps",
     "the decay has 180 steps and the run 150 after its warmup"),
    (["schedule=wsd", "trainer.max_steps=60"], "schedule.decay_fraction", "24 steps and the run 10 after its warmup"),
    (["trainer/weight_average=ema"], "trainer.weight_average.decay", "averages over about 1,000 steps"),
    (["trainer/spikes=bad", "trainer.spikes.window=200"], "trainer.spikes.window", "no spike is found"),
])  # fmt: skip
def test_what_else_is_doubtful(overrides, path, part):
    [told] = _told("trainer.max_steps=200", "schedule.warmup_steps=50", *overrides)
    assert told.startswith(f"warning: {path}: ")
    assert part in told


@pytest.mark.parametrize("overrides", [
    [], ["debug=one_step"], ["debug=overfit"], ["trainer.max_steps=84", "schedule.warmup_steps=50"],
    ["optim.lr=0.8"], ["optim.lr=4e-6"], ["optim.lr_scales.bias=0"], ["optim=muon"], ["optim=adafactor"],
    ["trainer.max_steps=null", "trainer.max_tokens=null", "trainer.max_seconds=5"],
    ["schedule.horizon_steps=100_000"], ["schedule=cosine", "schedule.horizon_steps=60", "schedule.final_fraction=0.1"],
    ["trainer/weight_average=ema", "trainer.weight_average.decay=0.9"],
])  # fmt: skip
def test_what_is_usual_is_not_told(overrides):
    assert _told(*overrides) == []


@pytest.mark.parametrize("study", ["gqa_ratio", "lr_robustness", "optimizer"])
def test_no_shipped_study_is_doubtful(study):
    assert _told(f"experiments={study}") == []


def test_of_many_runs_a_doubt_is_told_once():
    short, long = (resolved(compose([steps, "optim.lr=3e-3"])) for steps in (SHORT, "trainer.max_steps=500"))
    assert list(cautions([("a", long), ("b", long)])) == []
    [told] = cautions([("a", short), ("b", short), ("c", long), ("a", short), ("b", short)])
    assert told.endswith("  [4 of 5 runs: a, b]")


@pytest.mark.slow
def test_a_sweep_tells_it_once_and_not_for_each_cell(tmp_path):
    settings = [*TINY, "data=text", f"data.path={corpus(tmp_path)}", "trainer.max_steps=1", "evaluation.samples=0"]
    done = run(tmp_path, "train", "-m", *settings, "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("warning: schedule.warmup_steps: the run has 1 steps") == 1
    planned = run(tmp_path, "plan", *settings)
    assert planned.stdout.count("warning: schedule.warmup_steps") == 1
