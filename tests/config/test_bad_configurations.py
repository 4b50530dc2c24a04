"""A wrong configuration is told in one message, quickly, and leaves nothing behind.

Each case goes through the real command: the message must name the key or file, say the rule or the nearest valid name,
come without a traceback and with a non-zero status, and `outputs/` must not have been made. What does not compose is
answered without torch, which is what keeps that answer quick.
"""

import copy
import subprocess
import sys
from typing import Any

import pytest
from cli import environment, run
from config.sketched import plan
from omegaconf import OmegaConf

from atomiclm.config.command_line import composing
from atomiclm.config.compose import compose, resolved, root_keys
from atomiclm.config.errors import ConfigError
from atomiclm.config.validate import validate

EXPERIMENT = """# @package _global_
name: mine
optim: {lrr: 1e-3}
trianer: {max_steps: 5}
model: {attention: {num_kv_head: 2}}
"""

DEFAULTS = {
    "model: nosuch": ["model: ", "'override /model: NAME'", "no option 'nosuch'; valid names: bloom, ", "tiny"],
    "model: smal": ["model: ", "'override /model: NAME'", "no option 'smal'; did you mean 'small'?"],
    "model: small": ["model: ", "'override /model: small'"],
    "/model: small": ["model: ", "'override /model: small'"],
    "override model: small": ["model: ", "'override /model: NAME'"],
    "model/norm: layernrm": ["model/norm: ", "'override /model/norm: NAME'", "did you mean 'layernorm'?"],
    "modle: small": ["modle: no such group; did you mean 'model'?"],
    "override /model: smal": ["model: no option 'smal'; did you mean 'small'?"],
    "override /modle: small": ["modle: the configuration that is chosen has no such part"],
}
"""An entry of the defaults of an experiment's file, and what the message for it says."""

CASES = {
    "typo on the command line": (["optim.lrr=1e-3"], ["optim.lrr", "'lr'"]),
    "typo behind +": (["+optim.lrr=1e-3"], ["optim.lrr", "'lr'"]),
    "typo in an experiment file": (
        ["experiments=mine"],
        ["optim.lrr", "'lr'", "trianer", "'trainer'", "num_kv_head", "'num_kv_heads'", "3 faults"],
    ),
    "spaces around =": (["model", "=", "tiny"], ["model: not an override", "in one word, without spaces around the ="]),
    "text for a number": (["optim.lr=abc"], ["optim.lr", "'abc' is not a number"]),
    "a fraction for a count": (["model.num_layers=2.5"], ["model.num_layers", "2.5 is not a whole number"]),
    "heads that do not divide": (["model.attention.num_heads=7"], ["model.attention", "num_heads=7", "divide dim"]),
    "kv heads that do not divide": (
        ["model.attention.num_kv_heads=3"],
        ["num_kv_heads=3", "num_heads=4", "[1, 2, 4]"],
    ),
    "missing file": (["data=text", "data.path=nowhere.txt"], ["data.path", "nowhere.txt"]),
    "a missing file with an equals sign": (["data=text", "data.path=a=b/c.txt"], ["data.path: ", "a=b/c.txt"]),
    "no path at all": (["data=text"], ["data.path", "required"]),
    "empty file": (["data=text", "data.path=empty.txt"], ["data.path", "empty.txt is empty"]),
    "not UTF-8": (["data=text", "data.path=latin.txt"], ["data.path", "latin.txt", "UTF-8", "offset 3"]),
    "context longer than the corpus": (
        ["data=text", "data.path=short.txt", "tokenizer=bytes"],
        ["model.context_length", "128", "longer than the corpus"],
    ),
    "unknown option": (["model=smal"], ["model", "'smal'", "'small'"]),
    "no option of a group that needs one": (
        ["model/position=null"],
        ["model/position", "null is none of its options", "alibi"],
    ),
    "a part that the chosen option does not have": (
        ["model/attention=mla", "model/attention/gate=headwise"],
        ["model/attention/gate", "the model/attention that is chosen has no such part"],
    ),
    "a typo in an option that is not the default": (
        ["model/feedforward=moe", "model.feedforward.router.scael=2"],
        ["model.feedforward.router.scael", "'scale'"],
    ),
    "a setting of another option": (
        ["data=markov", "data.path=a.txt"],
        ["data.path", "data=text"],
    ),
    "a list that is not quoted": (
        ["match=parameters", "match.baseline=[model.dim=32]"],
        ["match.baseline", "quote"],
    ),
    "an objective out of range": (["trainer.objective.chunk_tokens=0"], ["trainer.objective", "chunk_tokens=0"]),
    "unknown group": (["modle=small"], ["modle", "'model'"]),
    "unknown experiment": (["experiments=gqa_rato"], ["experiments", "'gqa_ratio'"]),
    "negative budget": (["trainer.max_tokens=-5"], ["trainer.max_tokens", "positive"]),
    "no budget": (["trainer.max_tokens=null"], ["trainer", "no limit"]),
    "not one of the options of a value": (["runtime.device=gpu"], ["runtime.device", "cuda"]),
    "a size the decoder supplies": (["+model.attention.dim=64"], ["model.attention.dim", "model.dim"]),
    "an unknown class": (["model.norm._target_=atomiclm.model.RMSNrom"], ["model.norm._target_", "'RMSNorm'"]),
    "not an override": (["optim.lr=[1"], ["optim.lr=[1", "key=value"]),
    "several at once": (
        ["optim.lr=-1", "trainer.batch_size=0", "+foo=1", "model.dim=0"],
        ["4 faults", "optim.lr", "trainer.batch_size", "foo", "model.dim"],
    ),
    "a name that is no folder name": (["name=../out"], ["name", "'../out'"]),
    "no name": (["name=null"], ["name: null is no name of a folder"]),
    "a name too long for a folder": ([f"name={'a' * 260}"], ["name: ", "260 bytes, more than 200"]),
    "a seed that is no seed": (["seed=1.5"], ["seed", "1.5"]),
    "infinity": (["optim.eps=inf"], ["optim.eps", "not a finite number"]),
    "not a number": (["evaluation.sample_temperature=nan"], ["evaluation.sample_temperature", "finite"]),
    "no order": (["trainer.order=null"], ["trainer.order"]),
    "a group taken away": (["~tracking"], ["tracking", "missing"]),
    "an odd rotation": (["model.attention.head_dim=7"], ["model.position", "head_dim=7 is odd"]),
    "an experiment without its header": (["experiments=bare"], ["bare.yaml", "@package _global_"]),
    "an experiment that is not YAML": (["experiments=broken"], ["broken.yaml", "YAML"]),
    "muP with an optimizer it is not for": (["model/init=mup", "optim=muon"], ["model.init", "Muon", "optim=adamw"]),
    "a typo beside a match": (
        ["match=parameters", "match.baseline=['model.num_layers=3']", "+model.attention.num_kv_head=2", "+optim.lrr=1"],
        ["2 faults", "'num_kv_heads'", "'lr'"],
    ),
    "two averages": (
        ["optim=schedule_free", "trainer/weight_average=ema"], ["trainer.weight_average", "ScheduleFreeAdamW"],
    ),
    "further ahead than the context": (
        ["model/lookahead=sequential", "model.lookahead.depth=40", "model.context_length=32"],
        ["model.lookahead.depth: 40", "context_length=32"],
    ),
    "two cells that are one run": (["-m", "runtime.log_every_steps=1,2"], ["cells 1 and 2 are the same run"]),
    "one bad cell of a sweep": (
        ["-m", "model.attention.num_kv_heads=8,3"],
        ["num_kv_heads=3", "cell 2 of 2", "model.attention.num_kv_heads=3"],
    ),
}  # fmt: skip


@pytest.mark.one_in(60)
@pytest.mark.parametrize("case", CASES)
def test_is_told_and_leaves_nothing(case, tmp_path):
    arguments, expected = CASES[case]
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "short.txt").write_text("a short text")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(EXPERIMENT)
    (tmp_path / "experiments" / "bare.yaml").write_text("name: bare\n")
    (tmp_path / "experiments" / "broken.yaml").write_text("# @package _global_\nname: [broken\n")
    done = run(tmp_path, "train", *arguments, *([] if "~tracking" in arguments else ["tracking=off"]))
    assert done.returncode != 0
    for part in expected:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "outputs").exists()
    assert not (tmp_path / "multirun.yaml").exists()


@pytest.mark.parametrize("entry", DEFAULTS)
def test_the_defaults_of_an_experiment_are_told_how_an_option_is_chosen(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(f"# @package _global_\ndefaults:\n  - {entry}\n")
    with pytest.raises(ConfigError, match="1 fault") as caught, composing(["experiments=mine"]):
        compose(["experiments=mine"])
    for part in DEFAULTS[entry]:
        assert part in str(caught.value)


@pytest.mark.slow
def test_a_fault_of_composition_is_found_without_torch_or_wandb(tmp_path):
    code = (
        "import sys; sys.argv = ['train', 'optim.lrr=abc']\n"
        "from atomiclm.train import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 2, stop.code\n"
        "assert not {'torch', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), check=True)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"], ["--cfg", "job", "experiments=gqa_ratio"]])
def test_help_and_cfg_answer_without_torch_or_wandb(tmp_path, flags):
    code = (
        f"import sys; sys.argv = ['train', *{flags!r}]\n"
        "from atomiclm.train import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'wandb'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "optim" in done.stdout
    assert list(tmp_path.iterdir()) == []


CONSTRUCTED = {
    "no window": (["trainer/order=repeated", "trainer.order.num_windows=0"], "trainer.order.num_windows: 0 is not"),
    "more windows than memory": (
        ["trainer/order=repeated", "trainer.order.num_windows=1_000_000_000_000"], "trainer.order.num_windows: 1000000"
    ),
    "gradients away from the average": (
        ["optim=schedule_free", "optim.betas=[0,0]"], "optim.betas: betas=[0, 0] must begin with one of at least 0.01"
    ),
    "an average lost to rounding": (
        ["optim=schedule_free", "optim.betas=[1e-300,0.9]"], "optim.betas: betas=[1e-300, 0.9]"
    ),
    "nothing between documents": (
        ["tokenizer.special_tokens=[]"], "tokenizer.special_tokens: [] must hold '<|endoftext|>'"
    ),
    "another token between documents": (["tokenizer.special_tokens=['<s>']"], "tokenizer.special_tokens: ['<s>']"),
    "an orthogonal vector": (
        ["optim=muon", "optim.orthogonalized_roles=[gain]"],
        "optim.orthogonalized_roles: orthogonalized_roles=['gain'] must be roles of matrices",
    ),
    "a source that is never drawn": (["data=mixture", "data.weights.passkey=1e-300"], "data.weights: passkey has"),
    "a weight that is nearly none": (["data=mixture", "data.weights.passkey=5e-324"], "data.weights: passkey has"),
    "weights without a sum": (
        ["data=mixture", "data.weights={python: 1e308, passkey: 1e308}"], "data.weights: python has 0 of"
    ),
    "an eps of 0 in float32": (["optim.eps=1e-50"], "optim.eps: eps=1e-50 must be positive in float32"),
    "no eps for the rest": (["optim=muon", "optim.adamw_eps=1e-50"], "optim.adamw_eps: adamw_eps=1e-50"),
    "a rate beyond float32": (["optim.lr=1e300"], "optim.lr: lr=1e+300 must be at most 3.4e+38"),
    "a rate of 0 in float32": (["optim.lr=1e-300"], "optim.lr: lr=1e-300 must be positive in float32"),
    "a whole number beyond all floats": ([f"optim.weight_decay={10**400}"], "optim.weight_decay: 1000"),
    "a scale beyond float32": (
        ["optim.lr_scales.head=1e300"], "optim.lr_scales.head: lr_scales.head=1e+300 must be at most"
    ),
    "a number in a mapping": (["optim.lr_scales.matrix=abc"], "optim.lr_scales.matrix: 'abc' is not a number"),
    "an entry of a list": (["model.attention.window=[1,a]"], "model.attention.window[1]: 'a' is not a whole number"),
    "a limit of bad steps": (["trainer/bad_steps=skip", "trainer.bad_steps.limit=0"], "bad_steps.limit: limit=0 must"),
    "a name too long for a folder": ([f"name={'a' * 260}"], "has 260 bytes, more than 200"),
    "a long name of few letters": ([f"name='{'日' * 70}'"], "has 210 bytes, more than 200"),
    "a path too long": ([f"output_dir=here/{'a' * 260}"], "output_dir: 'aaaa"),
    "a cache too long": ([f"cache_dir={'a' * 260}"], "cache_dir: 'aaaa"),
}  # fmt: skip
"""What only a constructor, the model's shapes or the file system knows, and what the message begins with."""


def faults_of(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(config, root_keys())
    return str(caught.value)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("case", CONSTRUCTED)
def test_what_training_would_refuse_is_refused_by_validation(case):
    overrides, expected = CONSTRUCTED[case]
    assert expected in faults_of(resolved(compose(overrides)))


def test_parts_that_refuse_are_all_told_at_once():
    overrides = ["trainer.spikes.window=1", "trainer/bad_steps=skip", "trainer.bad_steps.limit=0",
                 "trainer/order=repeated", "trainer.order.num_windows=-1", "trainer.batch_size=0"]  # fmt: skip
    told = faults_of(resolved(compose(overrides)))
    for path in ("spikes.window", "bad_steps.limit", "order.num_windows", "batch_size"):
        assert f"trainer.{path}: " in told


@pytest.mark.parametrize("weights", [(1e-300, 1e-300), (5e-324, 5e-324), (1e300, 1e300)])
def test_only_the_ratios_of_a_mixtures_weights_count(weights):
    config = resolved(compose(["data=mixture"]))
    config["data"]["weights"] = dict(zip(("python", "passkey"), weights, strict=True))
    validate(config, root_keys())


def test_a_mixture_in_a_mixture_has_its_share_of_its_share():
    config = resolved(compose(["data=mixture"]))
    inner = copy.deepcopy(config["data"])
    inner["weights"] = {"python": 0.99, "passkey": 0.01}
    config["data"]["sources"] = {"python": config["data"]["sources"]["python"], "inner": inner}
    config["data"]["weights"] = {"python": 0.99, "inner": 0.01}
    assert "data.weights: inner/passkey has 0.0001 of the samples" in faults_of(config)


REFUSING = """
class Refusing:
    def __init__(self, *arguments, **settings):
        raise {error}("not like this")
"""


@pytest.mark.parametrize("error", ["ValueError", "TypeError"])
@pytest.mark.parametrize("path", [
    "tokenizer", "data", "schedule", "tracking", "match", "evaluation", "optim", "trainer", "trainer.order",
    "trainer.objective", "trainer.bad_steps", "trainer.spikes", "trainer.weight_average",
])  # fmt: skip
def test_every_constructor_is_asked(path, error, tmp_path, monkeypatch):
    """Also one of the user's own: validation knows no list of those that may refuse."""
    name = f"refusing_{path.replace('.', '_')}_{error}"
    (tmp_path / f"{name}.py").write_text(REFUSING.format(error=error))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ATOMICLM_TRUST", name)
    config = resolved(compose([]))
    *parents, last = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = {**(node[last] or {}), "_target_": f"{name}.Refusing"}
    told = faults_of(config)
    assert f"  {path}: " in told
    assert "not like this" in told


@pytest.mark.parametrize("path", [
    "tokenizer", "data", "schedule", "trainer.order", "trainer.objective", "trainer.bad_steps", "trainer.spikes",
    "tracking",
])  # fmt: skip
def test_a_component_of_another_group_is_refused(path):
    config = resolved(compose([]))
    *parents, last = path.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = {"_target_": "atomiclm.evaluation.Evaluation"}
    assert f"  {path}._target_: Evaluation is none of {path}'s components" in faults_of(config)


@pytest.mark.parametrize("path", ["tokenizer", "data", "schedule", "trainer", "trainer.order", "runtime", "model"])
def test_only_what_gets_more_arguments_is_partial(path):
    config = resolved(compose([f"++{path}._partial_=true"]))
    assert f"  {path}._partial_: is only for optim and the parts of a model" in faults_of(config)


def test_a_cell_that_training_would_refuse_stops_its_sweep(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        plan("optim=adamw,schedule_free", "optim.betas=[0,0]")
    assert "optim.betas: betas=[0, 0] must begin with" in str(caught.value)
    assert "cell 2 of 2" in str(caught.value)


GOOD = [
    ["optim.lr=1"], ["optim.lr_scales={head: 2}"], ["optim.lr_scales.embedding=0"], ["model/position=learned"],
    ["model/position=none"], ["model/feedforward=gelu"], ["model/norm=layernorm"], ["model/attention=mqa"],
    ["trainer/order=random"], ["schedule=constant"], ["tokenizer=bytes"], ["tracking=off"], ["debug=one_step"],
    ["trainer.max_seconds=60", "trainer.max_tokens=null"], ["trainer.gradient_clip=null"], ["model.dropout=0.1"],
    ["model.attention.num_heads=3", "model.attention.num_kv_heads=1", "model.attention.head_dim=10"],
    ["trainer.max_tokens=1e6"], ["seed=0"],
    ["runtime.checkpoint_every_seconds=null"], ["runtime.micro_batch_size=1"], ["evaluation.times=0"],
    ["data.validation_fraction=0.5"], ["tokenizer.vocab_size=257"], ["cache_dir=somewhere"], ["model=tiny"],
]  # fmt: skip


@pytest.mark.one_in(5)
@pytest.mark.parametrize("overrides", GOOD, ids=" ".join)
def test_good_settings_are_not_refused(overrides):
    """What a user may reasonably type: whole numbers for fractions, null, other components, odd sizes."""
    validate(resolved(compose(overrides)), root_keys())


@pytest.mark.one_in(3)
@pytest.mark.parametrize("group", ["model/attention/query_key_norm", "model/lookahead", "trainer/weight_average"])
def test_null_chooses_none_of_a_groups_options(group):
    path = group.replace("/", ".")
    assert OmegaConf.select(compose(["model=qwen3", f"{group}=null"]), path) is None
    assert compose([f"{group}=null"]) == compose([]), "it is none by default"


@pytest.mark.slow
def test_a_sweep_may_have_null_among_a_groups_options(tmp_path):
    done = run(tmp_path, "plan", "tokenizer=bytes", "-m", "model/lookahead=null,parallel")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows if row} >= {"null", "parallel"}, done.stdout


OPEN_ENDED = """
class OpenEnded:
    def __init__(self, **settings):
        if settings["horizon"] < 2:
            raise ValueError(f"horizon={settings['horizon']} is too short")
    def multiplier(self, step, horizon):
        return 1.0
"""


def test_what_takes_anything_is_given_what_it_is_to_take(tmp_path, monkeypatch):
    (tmp_path / "open_ended.py").write_text(OPEN_ENDED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ATOMICLM_TRUST", "open_ended")
    config = resolved(compose([]))
    config["schedule"] = {"_target_": "open_ended.OpenEnded", "horizon": 3}
    assert validate(config, root_keys()) == config
    config["schedule"]["horizon"] = 1
    assert "  schedule.horizon: horizon=1 is too short" in faults_of(config)
