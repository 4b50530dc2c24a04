"""`atomiclm.compose`, `train_run`, `load_run`, `compare_runs`: what a program or a notebook uses."""

import math
import shlex
import sys

import altair
import pytest
import torch
from cli import TINY, corpus, run
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import atomiclm
from atomiclm.cli import UserError
from atomiclm.config.errors import ConfigError, RunFailed


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    text = corpus(folder)
    threads = torch.get_num_threads()
    yield [
        *TINY, "data=text", f"data.path={text}", f"output_dir={folder / 'outputs'}", f"cache_dir={folder / 'cache'}",
        "trainer.max_steps=4", "schedule.warmup_steps=1", "runtime.log_every_steps=1", "runtime.device=cpu",
    ]  # fmt: skip
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(overrides):
    """One run from overrides and three from configurations, all in this process."""
    first = atomiclm.train_run(*overrides)
    others = [("seed=2",), ("optim.lr=1e-2",), ("seed=2", "optim.lr=1e-2")]
    return [first, *(atomiclm.train_run(config=atomiclm.compose(*overrides, *other)) for other in others)]


def test_a_trained_run_has_what_it_left_behind(runs):
    trained = runs[0]
    assert not trained.model.training
    assert trained.config["model"]["dim"] == trained.model.dim == 32
    assert trained.summary["state"] == "done"
    losses = [row["train/loss"] for row in trained.record if row["event"] == "train"]
    assert len(losses) == 4
    assert trained.frame("train")["train/loss"].tolist() == losses
    assert "validation/loss" not in trained.frame("train")
    assert set(trained.frame()["event"]) >= {"train", "validation", "sample", "checkpoint"}
    assert len(repr(trained)) < 400
    text = trained.generate("the cat", max_tokens=5)
    assert text.startswith("the cat")
    assert text == trained.generate("the cat", max_tokens=5)


def test_the_charts_have_the_numbers_of_the_record(runs):
    [points] = runs[0].chart().to_dict()["datasets"].values()
    drawn = [row["bits"] for row in points if row["text"] == "validation"]
    assert drawn == runs[0].frame("validation")["validation/bits_per_byte"].tolist()
    assert isinstance(runs[0].chart(), altair.LayerChart), "which displays itself"


def test_the_command_finds_the_run_of_the_same_overrides(runs, overrides):
    folder = runs[0].folder.path
    done = run(folder.parents[2], "train", *overrides)
    assert f"{folder} is done already" in done.stdout
    assert atomiclm.compose(*overrides).folder == folder


def test_a_run_names_the_command_that_would_train_it(runs, overrides):
    assert shlex.split(runs[1].folder.command()) == ["atomiclm", "train", *overrides, "seed=2"]


def test_a_run_that_diverged_says_so_each_time(overrides):
    mad = [*overrides, "name=mad", "optim.lr=1e9", "trainer.gradient_clip=null", "trainer.max_steps=20"]
    with pytest.raises(RunFailed, match="diverged at step"):
        atomiclm.train_run(*mad, quiet=True)
    with pytest.raises(RunFailed, match="has diverged already"):
        atomiclm.train_run(*mad)


def test_quiet_prints_nothing(runs, overrides, capsys):
    assert atomiclm.train_run(*overrides, quiet=True).checkpoint == runs[0].checkpoint
    assert capsys.readouterr() == ("", "")


def test_the_command_writes_what_generate_returns(runs):
    written = run(runs[0].folder.path, "generate", ".", "--prompt", "a dog", "--max-tokens", "8", "--seed", "3")
    assert written.stdout == runs[0].generate("a dog", 8, seed=3) + "\n"


def test_a_run_loads_by_folder_checkpoint_and_id(runs):
    folder = runs[0].folder.path
    tokens = torch.tensor([[1, 2, 3]])
    for name in (folder, str(runs[0].checkpoint), folder.name, folder.name.rpartition("-")[2]):
        loaded = atomiclm.load_run(name, outputs=folder.parents[1])
        assert torch.equal(loaded.model(tokens), runs[0].model(tokens))
    with pytest.raises(UserError, match="near: "):
        atomiclm.load_run(folder.name.replace("seed", "sead"), outputs=folder.parents[1])


def test_a_comparison_shows_itself(runs):
    compared = atomiclm.compare_runs(runs[0].folder.path.parent, baseline="optim.lr=0.003")
    shown = compared._repr_markdown_()
    [arm] = [arm for arm in compared.arms if arm.contrast]
    assert f"| {arm.name} | 2 |" in shown
    assert f" {arm.verdict} |" in shown
    assert compared.frame()["seeds"].tolist() == [2, 2]
    by_run = compared.frame("runs").set_index("run")["validation/bits_per_byte"]
    for trained in runs:
        assert math.isclose(by_run[trained.folder.run_id], trained.summary["validation/bits_per_byte"])
    assert compared.chart().to_dict()
    with pytest.raises(UserError, match="heatmap takes a sweep over at least two factors"):
        compared.chart("heatmap")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("model=tinny", "model: no option 'tinny'; did you mean 'tiny'?"),
        ("optim.lrr=1", "did you mean 'lr'?"),
        ("seed=1,2", "lists several values"),
        ("--model=tiny", "flags are for commands"),
    ],
)
def test_a_mistake_is_an_exception_with_a_message(wrong, message):
    with pytest.raises(UserError) as raised:
        atomiclm.compose(wrong)
    assert message in str(raised.value)
    assert not GlobalHydra.instance().is_initialized()


def test_overrides_belong_into_the_configuration(overrides):
    with pytest.raises(UserError, match="seed=2 belongs in compose"):
        atomiclm.train_run("seed=2", config=atomiclm.compose(*overrides))


def test_another_hydra_application_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        theirs = GlobalHydra.instance().config_loader()
        assert atomiclm.compose("seed=7").values["seed"] == 7
        with pytest.raises(ConfigError):
            atomiclm.compose("mine=2")
        assert GlobalHydra.instance().config_loader() is theirs


def test_without_pandas_the_record_is_still_there(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert runs[0].record
    with pytest.raises(ImportError, match="pandas"):
        runs[0].frame()
