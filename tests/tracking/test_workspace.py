"""The workspace as code: what it shows, and that W&B's own library and the client take it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb_driver import make_run, make_sweep, sandbox

from atomiclm import workspace
from atomiclm.sweep.ledger import Cell, StudyLedger, write_ledger
from atomiclm.sweep.study import Study
from atomiclm.tracking import read_summary, write_summary

# wandb-workspaces says this of itself, where it is first imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")


@pytest.fixture
def study(tmp_path):
    """Two runs that differ in a learning rate, without a ledger."""
    for seed, lr in ((1, 0.1), (2, 0.2)):
        folder = Path(make_run(tmp_path / "study" / f"lr={lr}-aaaaaaa{seed}"))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config |= {"optim": {"lr": lr}, "seed": seed, "tracking": {"project": "atomiclm", "entity": None}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        write_summary(folder / "summary.json", {**read_summary(folder / "summary.json"), "state": "done"})
    return tmp_path / "study"


def declare(folder):
    arms = {"plain": [], "doubled": ["optim.lr=0.2"]}
    declared = Study(question="Does it matter?", baseline="plain", arms=arms, seeds=[1], metric="validation/loss")
    write_ledger(folder, StudyLedger(folder.name, "", [Cell("plain", 1, "lr=0.1-aaaaaaa1", [])], declared))


def spec(folder, capsys):
    assert workspace.main([str(folder), "--dry-run"]) == 0
    return json.loads(capsys.readouterr().out)


def panels(view, kind):
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel["config"] for section in sections for panel in section["panels"] if panel["viewType"] == kind]


@pytest.mark.slow
def test_it_opens_on_the_metric_against_all_four_axes_grouped_by_variant(study, capsys):
    view = spec(study, capsys)
    curves = panels(view, "Run History Line Plot")
    assert [curve["xAxis"] for curve in curves] == ["tokens", "flops", "seconds", "step"]
    assert all(curve["metrics"] == ["validation/bits_per_byte"] for curve in curves)
    assert {curve["groupBy"] for curve in curves} == {"variant.value"}
    first = view["spec"]["section"]["panelBankConfig"]["sections"][0]
    assert first["isOpen"]
    bars = panels(view, "Bar Chart")
    assert bars[0]["metrics"] == ["summary_metrics.final/bits_per_byte"]
    assert len(panels(view, "Scatter Plot")) == 3


@pytest.mark.slow
def test_the_run_table_is_filtered_and_grouped_and_shows_what_differs(study, capsys):
    (runset,) = spec(study, capsys)["spec"]["section"]["runSets"]
    (only,) = runset["filters"]["filters"]
    assert (only["key"]["name"], only["op"], only["value"]) == ("study", "=", "study")
    assert [group["name"] for group in runset["grouping"]] == ["variant.value"]
    columns = runset["runFeed"]["columnOrder"]
    assert columns[1:4] == ["config:variant", "config:optim.lr", "config:seed"]
    assert "summary:final/bits_per_byte" in columns
    assert "config:derived.cache_bytes_per_token" in columns
    assert "config:model.dim" not in columns


def test_the_ledger_gives_the_question_the_metric_and_the_arms(study, capsys):
    declare(study)
    view = spec(study, capsys)
    (text,) = panels(view, "Markdown Panel")
    assert "Does it matter?" in text["value"]
    assert "Baseline: plain" in text["value"]
    assert all(curve["metrics"] == ["validation/loss"] for curve in panels(view, "Run History Line Plot"))
    assert panels(view, "Bar Chart")[0]["groupBy"] == "arm.value"
    (runset,) = view["spec"]["section"]["runSets"]
    assert [group["name"] for group in runset["grouping"]] == ["arm.value", "variant.value"]


def test_a_sweep_over_factors_opens_on_effects_then_curves_by_factor(tmp_path, capsys):
    view = spec(make_sweep(tmp_path / "sweep"), capsys)
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    assert [(section["name"], section["isOpen"]) for section in sections[:3]] == [
        ("effects", True), ("curves by factor", True), ("curves by arm", True)
    ]  # fmt: skip
    kinds = [panel["viewType"] for panel in sections[0]["panels"]]
    assert kinds == ["Markdown Panel", "Bar Chart", "Parallel Coordinates Plot", "Bar Chart", "Bar Chart"]
    assert [bar["groupBy"] for bar in panels(view, "Bar Chart")[:3]] == [
        "arm.value", "factor/kv.value", "factor/theta.value"
    ]  # fmt: skip
    (parallel,) = panels(view, "Parallel Coordinates Plot")
    assert [column["accessor"] for column in parallel["columns"]] == [
        "config:factor/kv.value", "config:factor/theta.value", "summary:final/bits_per_byte"
    ]  # fmt: skip
    curves = [panel["config"] for panel in sections[1]["panels"]]
    assert [curve["groupBy"] for curve in curves] == ["factor/kv.value", "factor/theta.value"]
    (runset,) = view["spec"]["section"]["runSets"]
    columns = runset["runFeed"]["columnOrder"]
    assert columns[1:6] == ["config:arm", "config:variant", "config:factor/kv", "config:factor/theta", "config:seed"]
    assert "summary:compare/verdict" in columns


def test_a_sweep_of_which_nothing_ran_yet_has_a_view_too(tmp_path, capsys):
    declare(tmp_path / "planned")
    assert spec(tmp_path / "planned", capsys)["displayName"] == "planned"


def call(tmp_path, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "atomiclm.workspace", *map(str, arguments)],
        cwd=tmp_path, env=sandbox(tmp_path, **variables), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_server_takes_it(study, tmp_path, server):
    answer = call(tmp_path, study, **server.variables)
    assert answer.returncode == 0, answer.stderr
    (view,) = server.views
    assert (view["displayName"], view["entityName"], view["projectName"]) == ("study", "somebody", "atomiclm")
    assert f"{server.url}/somebody/atomiclm?nw=" in answer.stdout


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("arguments", "said"), [(["nowhere"], "no folder"), (["study"], "no key was found")], ids=["folder", "key"]
)
def test_mistakes_are_exit_status_2(study, tmp_path, arguments, said):
    answer = call(tmp_path, *arguments)
    assert (answer.returncode, "Traceback" in answer.stderr) == (2, False)
    assert said in answer.stderr


def test_without_the_extra_it_says_what_to_install(study, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert workspace.main([str(study), "--dry-run"]) == 2
    assert "uv sync --extra workspace" in capsys.readouterr().err
