"""The command `compare`: exit codes, messages, and what the terminal, Markdown, CSV and JSON say of one comparison."""

import csv
import errno
import io
import json
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from comparison.fake_runs import METRIC, PROTOCOL, FakeArm, gqa_arms, many_arms, write_run, write_study

from atomiclm.atomic_io import to_json
from atomiclm.compare import main
from atomiclm.comparison.analysis import compare_folder
from atomiclm.comparison.results import Contrast, Spread
from atomiclm.comparison.runs import read_runs
from atomiclm.comparison.wording import format_difference, format_p, format_spread, format_value
from atomiclm.sweep.factors import last_parts
from atomiclm.sweep.study import Study

SEEDS = (1, 2, 3, 4)


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "outputs" / "gqa_ratio"
    write_study(path, gqa_arms((0.0, 0.004, 0.012, 0.2)), SEEDS, study={"expect": {"kv1": "worse"}})
    return path


@pytest.fixture
def troubled(tmp_path):
    """One arm with everything that can go wrong."""
    arms = gqa_arms()
    states = {1: "diverged", 2: "failed", 3: "missing", 4: "torn", 5: "running", 6: "interrupted"}
    arms[3] = FakeArm("kv1", 0.03, arms[3].config, arms[3].summary, states)
    path = tmp_path / "outputs" / "troubled"
    write_study(path, arms, range(1, 9))
    return path


def run_main(capsys, *arguments):
    code = main([*map(str, arguments), "--quiet"])  # a slow machine is told what is being done
    return code, *capsys.readouterr()


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_what_is_missing_comes_first_with_its_commands_then_the_table(troubled, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = run_main(capsys, troubled)
    assert code == 1
    lines = out.splitlines()
    table = next(index for index, line in enumerate(lines) if "verdict" in line)
    before = "\n".join(lines[:table])
    for state in ("diverged", "failed", "missing", "torn", "running", "interrupted"):
        assert state in before
    assert "OutOfMemoryError: out of memory in layer 3" in before
    for seed in (2, 3, 4, 5, 6):
        assert f"    atomiclm train name=troubled model.attention.num_kv_heads=1 seed={seed}" in lines[:table]
    assert f"name=troubled model.attention.num_kv_heads=1 seed={1}" not in out, "nothing finishes what diverged"
    assert "all of them: atomiclm train -m experiments=troubled" in before
    row = next(line for line in lines[table:] if line.startswith("kv1"))
    assert "2 of 8" in row
    assert "diverged 1 of 3" in row


def test_commands_are_never_wrapped_so_that_they_can_be_copied(troubled, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = run_main(capsys, troubled)
    assert "    atomiclm train name=troubled model.attention.num_kv_heads=1 seed=2" in out.splitlines()


def test_a_sweep_that_hardly_began_lists_a_dozen_cells_and_counts_the_rest(tmp_path, capsys):
    arms = [FakeArm(arm.name, arm.effect, states=dict.fromkeys((2, 3), "missing")) for arm in many_arms()]
    write_study(tmp_path / "many", arms)
    code, out, _ = run_main(capsys, tmp_path / "many")
    assert code == 0
    assert "Not in the table: 48" in out
    assert "and 36 more" in out
    assert sum(line.startswith("  missing") for line in out.splitlines()) == 12


@pytest.mark.parametrize("width", [60, 80, 100, 160, 200])
def test_no_number_is_cut_and_no_table_wider_than_the_terminal(study, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run_main(capsys, study)
    assert code == 0
    assert all(len(line) <= width for line in out.splitlines())
    assert "…" not in out
    comparison = compare_folder(study)
    for arm in comparison.arms:
        assert format_spread(arm.figures[METRIC]) in out
        if arm.contrast:
            assert format_difference(arm.contrast) in out
    for text in ("3,072", "1,536", "768", "384", "17.7M", "20.0k", "worse: reproduced"):
        assert text in out
    headings = [line for line in out.splitlines() if line.startswith("arm")]
    assert len(headings) == 1 if width == 200 else len(headings) > 1


def test_the_table_is_followed_by_predictions_costs_notes_anchors_and_noise(study, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    _, out, _ = run_main(capsys, study)
    order = [
        "Predicted: A little",
        "Declared before the first run ended",
        "Reproduced: kv1 (worse).",
        "kv1 against kv8: parameters -5.0 %, cache B/token (bfloat16) -87.5 %",
        "Differences are to kv8, paired by seed, with their 95 % interval; p is adjusted for 3 arms (Holm).",
        "Equivalent: the 90 % interval lies within ±0.01",
        "num_kv_heads: model.attention.num_kv_heads",
        "anchors  5-gram 2.408  xz 2.518",
        "noise    sd ",
        "cost     16 finished runs",
    ]
    places = [out.index(text) for text in order]
    assert places == sorted(places)


def test_markdown_csv_and_json_say_the_same(study, capsys):
    comparison = compare_folder(study)
    _, text, _ = run_main(capsys, study, "--format", "csv")
    rows = csv_rows(text)
    assert [row["arm"] for row in rows] == ["kv8", "kv4", "kv2", "kv1"]
    _, text, _ = run_main(capsys, study, "--format", "json")
    content = json.loads(text)
    _, text, _ = run_main(capsys, study, "--format", "markdown")
    table = [line for line in text.splitlines() if line.startswith("| kv") or line.startswith("| arm")]
    assert len({line.count("|") for line in table}) == 1
    for arm, row, written, line in zip(comparison.arms, rows, content["arms"], table[1:], strict=True):
        spread = arm.figures[METRIC]
        assert float(row[METRIC]) == written["figures"][METRIC]["mean"] == spread.mean
        assert float(row[f"{METRIC} sd"]) == written["figures"][METRIC]["deviation"] == spread.deviation
        assert row["parameters"] == str(arm.runs[0].summary["parameters"])
        assert row["model.attention.num_kv_heads"] == str(written["values"]["model.attention.num_kv_heads"])
        assert row["verdict"] == written["verdict"] == arm.verdict
        assert format_spread(spread) in line
        if arm.contrast:
            assert float(row["difference"]) == written["contrast"]["mean"] == arm.contrast.mean
            assert float(row["p_holm"]) == written["contrast"]["p_holm"]
            assert written["contrast"]["differences"] == list(arm.contrast.differences)
    assert content["prediction"]["finished_cells"] == 0
    assert content["arms"][0]["runs"][0]["figures"][METRIC] == comparison.arms[0].runs[0].summary[METRIC]


def test_runs_has_one_line_a_run_with_every_figure(troubled, capsys):
    code, text, _ = run_main(capsys, troubled, "--format", "runs")
    rows = csv_rows(text)
    assert code == 1
    assert len(rows) == 32
    done = [row for row in rows if row["state"] == "done"]
    assert len(done) == 26
    for row in done:
        summary = json.loads((troubled / row["run"] / "summary.json").read_text())
        assert (row["arm"], row["seed"]) == (row["run"].split("-")[0], str(summary["seed"]))
        assert float(row[METRIC]) == summary[METRIC]
        assert float(row["train/loss"]) == summary["train/loss"]
        assert row["parameters"] == str(summary["parameters"])
    others = {row["state"]: row for row in rows if row["state"] != "done"}
    assert set(others) == {"diverged", "failed", "missing", "torn", "running", "interrupted"}
    assert {row[METRIC] for row in others.values()} == {""}


def test_means_can_be_had_again_from_the_runs(study, capsys):
    rows = csv_rows(run_main(capsys, study, "--format", "runs")[1])
    for arm in csv_rows(run_main(capsys, study, "--format", "csv")[1]):
        own = [float(row[METRIC]) for row in rows if row["arm"] == arm["arm"]]
        assert statistics.fmean(own) == pytest.approx(float(arm[METRIC]), rel=1e-12)


def test_a_csv_of_arms_does_not_hide_what_is_missing(troubled, capsys):
    _, _, err = run_main(capsys, troubled, "--format", "csv")
    for state in ("failed", "torn", "diverged", "missing"):
        assert f"not in the table: {state} kv1" in err


def test_figures_that_are_no_numbers_are_dashes_empty_fields_and_nulls(tmp_path, capsys):
    lost = FakeArm("kv4", config={"x.y": 1}, summary={"tokens_per_second": 1e4}, states={1: "diverged", 2: "diverged"})
    write_study(tmp_path / "gqa", [FakeArm("kv8"), lost], (1, 2))
    code, out, _ = run_main(capsys, tmp_path / "gqa")
    assert code == 1
    assert next(line for line in out.splitlines() if line.startswith("kv4")).split()[-1] in ("-", "2")
    assert "nan" not in out.replace("the loss is nan", "")
    rows = csv_rows(run_main(capsys, tmp_path / "gqa", "--format", "csv")[1])
    assert (rows[1][METRIC], rows[1]["difference"], rows[1]["verdict"]) == ("", "", "diverged 2 of 2")
    content = json.loads(run_main(capsys, tmp_path / "gqa", "--format", "json")[1])
    assert content["arms"][1]["figures"][METRIC]["mean"] is None
    assert content["arms"][1]["contrast"]["mean"] is None
    assert "diverged 2 of 2" in run_main(capsys, tmp_path / "gqa", "--format", "markdown")[1]


@pytest.mark.parametrize(
    ("state", "code"),
    [("running", 0), ("interrupted", 0), ("missing", 0), ("diverged", 1), ("failed", 1), ("torn", 1)],
)
def test_exit_codes(tmp_path, capsys, state, code):
    arms = gqa_arms()
    write_study(tmp_path / "fine", arms)
    assert run_main(capsys, tmp_path / "fine")[0] == 0
    arms[1] = FakeArm("kv4", states={2: state})
    write_study(tmp_path / "gqa", arms)
    assert run_main(capsys, tmp_path / "gqa")[0] == code


def test_different_validation_bytes_are_refused_in_one_line_naming_both(study, capsys):
    run = next(study.glob("kv4-seed=2-*"))
    summary = json.loads((run / "summary.json").read_text())
    other = {**PROTOCOL, "compared": {**PROTOCOL["compared"], "validation_sha256": "bb"}}
    (run / "summary.json").write_text(json.dumps({**summary, "protocol": other}))
    code, out, err = run_main(capsys, study)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "validation bytes: " in err
    assert "against bb" in err
    assert str(run) in err


@pytest.mark.parametrize("layout", ["terminal", "markdown", "csv", "runs", "json"])
def test_nothing_finished_yet(tmp_path, capsys, layout):
    write_study(tmp_path / "new", [FakeArm("kv8", states={1: "running"})], (1,))
    code, out, err = run_main(capsys, tmp_path / "new", "--format", layout)
    assert code == 0
    assert "running" in out + err


def test_settings_reach_the_comparison(study, capsys):
    arguments = ("--metric", "validation/loss", "--baseline", "kv4", "--margin", "0.5", "--alpha", "0.1")
    content = json.loads(run_main(capsys, study, *arguments, "--format", "json")[1])
    assert [content[key] for key in ("metric", "baseline", "margin", "alpha")] == ["validation/loss", "kv4", 0.5, 0.1]
    assert content["arms"][0]["name"] == "kv4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric", "validation/los"), "validation/loss"),
        (("--baseline", "kv3"), "'kv3' is none of the arms"),
        (("--margin", "-1"), "--margin: -1 is not positive"),
        (("--alpha", "0"), "--alpha: 0 is not between"),
    ],
)
def test_mistakes_are_one_line_on_stderr(study, capsys, arguments, message):
    code, out, err = run_main(capsys, study, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("outputs/gqa_rato", "no folder 'outputs/gqa_rato'; near: outputs/gqa_ratio"),
        ("gqa_ratio", "near: outputs/gqa_ratio"),
        ("outputs", "holds studies.*outputs/gqa_ratio"),
        ("empty", "no runs in 'empty'"),
        ("file", "is a file"),
    ],
)
def test_wrong_paths_are_one_line_and_name_what_is_near(study, tmp_path, capsys, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    code, out, err = run_main(capsys, path)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    with pytest.raises(ValueError, match=message):
        read_runs([path])


def test_one_run_is_there_once_however_it_is_named(study, capsys):
    one = next(study.glob("kv1-seed=1-*"))
    assert len(read_runs([study, one, one])) == 16
    assert len(read_runs([one])) == 1
    assert "kv1" in run_main(capsys, one)[1]


def test_without_a_plan_an_interrupted_run_has_the_command_it_was_started_by(tmp_path, capsys):
    write_study(tmp_path / "free", gqa_arms()[:2], ledger=False)
    write_run(tmp_path / "free" / "kv8-seed=9-0badc0de", FakeArm("kv8"), 9, 1.9, state="interrupted")
    _, out, _ = run_main(capsys, tmp_path / "free")
    assert "    atomiclm train arm=kv8 seed=9" in out.splitlines()


def test_many_differences_get_a_table_of_their_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    keys = [f"optim.setting_{index}" for index in range(5)]
    arms = [FakeArm(name, config={key: f"{name}{key[-1]}" for key in keys}) for name in ("one", "two")]
    write_study(tmp_path / "recipes", arms)
    _, out, _ = run_main(capsys, tmp_path / "recipes")
    lines = [line.split() for line in out.splitlines()]
    assert ["setting", "one", "two"] in lines
    assert ["optim.setting_2", "one2", "two2"] in lines
    monkeypatch.setenv("COLUMNS", "25")
    words = run_main(capsys, tmp_path / "recipes")[1].split()
    assert "optim.setting_2=two2" in words[words.index("settings") :], "an arm a row where columns have no room"
    _, text, _ = run_main(capsys, tmp_path / "recipes", "--format", "markdown")
    assert "| one | one0 | one1 | one2 | one3 | one4 |" in text
    assert csv_rows(run_main(capsys, tmp_path / "recipes", "--format", "csv")[1])[1]["optim.setting_3"] == "two3"


def test_what_runs_say_cannot_steer_the_terminal(tmp_path, capsys):
    write_study(tmp_path / "gqa", [FakeArm("kv8", states={1: "failed"}), FakeArm("kv4")], (1, 2))
    run = next((tmp_path / "gqa").glob("kv8-seed=1-*"))
    summary = json.loads((run / "summary.json").read_text())
    summary["error"] = {"type": "E", "message": "\x1b[2J[bold]gone"}
    (run / "summary.json").write_text(json.dumps(summary))
    _, out, _ = run_main(capsys, tmp_path / "gqa")
    assert "\x1b" not in out
    assert "E: \\x1b[2J[bold]gone" in out


def test_names_of_settings_keep_the_last_part_that_tells():
    keys = ["model.attention.dropout", "model.dropout", "optim.lr", "model.norm._target_", "model.attention.norm.eps"]
    assert last_parts(keys) == {
        "model.attention.dropout": "attention.dropout",
        "model.dropout": "model.dropout",
        "optim.lr": "lr",
        "model.norm._target_": "norm",
        "model.attention.norm.eps": "eps",
    }
    assert last_parts(["a.x", "b.a.x"]) == {"a.x": "a.x", "b.a.x": "b.a.x"}
    both = ["model.norm", "model.norm._target_"]
    assert last_parts(both) == dict(zip(both, both, strict=True))


def test_figures_in_words():
    assert format_spread(Spread.of([1.0])) == "1.0000"
    assert format_spread(Spread(1.0, 0.0, 3, 0.0)) == "1.0000 ± 0"
    assert format_spread(Spread(1.93, 0.036, 3, 0.0357)) == "1.930 ± 0.036"
    assert format_spread(Spread(200.0, 1.0, 2, 141.4)) == "200 ± 141"
    assert format_spread(Spread.of([float("nan"), 1.0])) == "-"
    values = (None, True, 3e-4, 8, "atomiclm.model.SwiGLU", "gpt4", [1, "x"])
    assert [format_value(value) for value in values] == ["-", "true", "0.0003", "8", "SwiGLU", "gpt4", "1 x"]
    assert [format_p(p) for p in (None, 0.0, 2e-3, 0.0321, 0.0996, 1.0)] == [
        "-", "<0.0001", "0.002", "0.032", "0.10", "1.00",
    ]  # fmt: skip
    contrast = Contrast(
        [1, 2], [0.01, 0.02], True, 0.015, 0.007, -0.0484, 0.0785, 0.05, 0.2, 0.2, None, None, None, 0.1, "worse", ""
    )
    assert format_difference(contrast) == "+0.015 (-0.048 .. +0.079)"
    assert format_difference(None) == "-"


@pytest.mark.slow
def test_help_and_a_whole_comparison_import_nothing_heavy(study):
    code = (
        "import sys; from atomiclm.compare import main; assert main([sys.argv[1]]) == 0;"
        "heavy = {'torch', 'wandb', 'hydra', 'omegaconf', 'scipy.stats'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(study)], check=True, capture_output=True)
    code = (
        "import sys; from atomiclm.compare import parser; parser().format_help();"
        "heavy = {'torch', 'wandb', 'numpy', 'scipy', 'hydra'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    command = [sys.executable, "-m", "atomiclm.compare", "--help"]
    assert "Exit codes" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_terminal_table_reads_no_metrics(tmp_path, capsys):
    """Their rows are most of a study's bytes, and only the page draws them."""
    write_study(tmp_path / "gqa", gqa_arms())
    for path in (tmp_path / "gqa").glob("*/metrics.jsonl"):
        path.write_bytes(b"\xff not JSON\n" * 3)
    assert run_main(capsys, tmp_path / "gqa")[0] == 0


def test_pages_and_figures_are_written_where_asked(study, tmp_path, capsys):
    code, _, _ = run_main(capsys, study, "--html", tmp_path / "page.html", "--figure", tmp_path / "figure.svg")
    assert code == 0
    assert "kv4" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "figure.svg").read_text().lstrip().startswith("<")
    code, out, err = run_main(capsys, study, "--figure", tmp_path / "nowhere" / "figure.svg")
    assert (code, out) == (2, "")
    assert "nowhere" in err


@pytest.mark.parametrize("option", ["--html", "--figure"])
def test_a_full_disk_is_told_with_the_file(study, tmp_path, capsys, monkeypatch, option):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = run_main(capsys, study, option, tmp_path / "file")
    assert (code, err) == (1, f"atomiclm compare: {tmp_path / 'file'}: No space left on device\n")
    assert not (tmp_path / "file").exists()


NO_FILE = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "deep": lambda path: path.write_text("[" * 200_000),
    "a loop": lambda path: path.symlink_to(path.name),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("put", NO_FILE.values(), ids=NO_FILE.keys())
@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "environment.json"])
def test_one_run_that_cannot_be_read_does_not_hide_the_others(tmp_path, capsys, name, put):
    write_study(tmp_path / "gqa", [FakeArm("kv8"), FakeArm("kv4")], (1, 2, 3))
    run = sorted((tmp_path / "gqa").glob("*/summary.json"))[0].parent
    (run / name).unlink(missing_ok=True)
    put(run / name)
    code, out, err = run_main(capsys, tmp_path / "gqa")
    assert (code, err) == (int(name != "environment.json"), "")
    assert ("torn" in out) == (name != "environment.json")
    assert out.count("kv4") > 0


def test_a_run_stopped_before_its_first_row_is_no_failure(tmp_path, capsys):
    write_study(tmp_path / "gqa", [FakeArm("kv8")], (1, 2))
    run = sorted((tmp_path / "gqa").glob("*/summary.json"))[0].parent
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").write_bytes(b"")
    assert run_main(capsys, tmp_path / "gqa")[0] == 1  # nobody has trained here: something has gone
    (run / ".lock").touch()
    code, out, _ = run_main(capsys, tmp_path / "gqa")
    assert code == 0
    assert "interrupted" in out
    assert "begins it again" in " ".join(out.split())


@pytest.mark.parametrize("margin", ["5e-324", "1e-300", "1e200", "1.7e308"])
def test_a_margin_of_any_size_is_computed_with(study, margin, capsys):
    code, out, err = run_main(capsys, study, "--margin", margin, "--format", "json")
    assert code == 0, err
    needed = {arm["contrast"]["seeds_needed"] for arm in json.loads(out)["arms"] if arm["contrast"]}
    assert needed == ({10**9} if float(margin) < 1 else {2})


@pytest.mark.parametrize("margin", ["inf", "nan", "-inf", "0", "-0.1"])
def test_the_flag_refuses_the_margins_that_a_study_refuses(study, margin, capsys):
    code, _, err = run_main(capsys, study, f"--margin={margin}")
    rule = f"{float(margin):g} is not positive and finite"
    assert code == 2
    assert f"--margin: {rule}" in err
    with pytest.raises(ValueError, match=re.escape(f"margin={rule}")):
        Study(margin=float(margin))


@pytest.mark.parametrize("value", [1e200, -1e200, 1.7e308, 10**400, math.inf, math.nan])
@pytest.mark.parametrize("name", [METRIC, "tokens_per_second"])
def test_figures_that_are_too_large_to_compute_with_are_no_numbers(value, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    path = tmp_path / "outputs" / "large"
    write_study(path, [FakeArm("mha"), FakeArm("mqa", config={"model.attention.num_kv_heads": 1})], SEEDS)
    for summary in path.glob("*/summary.json"):
        if "num_kv_heads: 1\n" in (summary.parent / "config.yaml").read_text():
            found = json.loads(summary.read_text())
            summary.write_bytes(to_json({**found, name: value}))
    for form in ("terminal", "json", "markdown", "csv", "runs"):
        code, out, err = run_main(capsys, path, "--format", form, "--margin", "0.01")
        assert code == (name == METRIC), err
    if name == METRIC:
        assert "diverged" in out + err
