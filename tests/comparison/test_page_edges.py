"""Pages of studies that are not as usual: evaluated, sequential, empty, unplanned, huge."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from comparison.fake_runs import FakeArm, four_factors, gqa_arms, write_study
from comparison.page_reading import Page
from comparison.page_study import compared, eventful_study

from atomiclm.comparison.charts import specification, svg
from atomiclm.comparison.forest_charts import means
from atomiclm.comparison.page import page_html
from atomiclm.comparison.saved_evaluations import read_saved_evaluations, with_decoding
from atomiclm.evaluation import Described, EvaluationResult, Measured


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return eventful_study(tmp_path_factory.mktemp("outputs") / "gqa")


def evaluation(protocol, figures, curves=None, step=488, model=None):
    """As `evaluate` writes it."""
    described = Described(protocol, {"validation_sha256": "aa"}, {"context_length": 256})
    measured = Measured(figures, curves or {})
    return EvaluationResult(described, f"step_{step:08d}", "w", model or {}, measured).to_json()


def test_evaluations_of_run_folders_are_shown_as_means_over_seeds(comparison, tmp_path):
    folder = tmp_path / "outputs" / "two"
    write_study(folder, gqa_arms()[:2], (1, 2))
    positions = {"position": [0, 1, 2, 4], "loss": [4.0, 3.0, 2.5, 2.0], "tokens": [9, 9, 9, 9]}
    for seed, run in enumerate(sorted(folder.glob("kv4-*")), start=1):
        (run / "evaluations").mkdir()
        (run / "evaluations" / "by_position-1.json").write_bytes(
            evaluation("by_position", {"bits_per_byte": 1.0 + seed, "loss": 2.0}, {"binned": positions})
        )
        (run / "evaluations" / "length_extrapolation-1.json").write_bytes(
            evaluation(
                "length_extrapolation", {"bits_per_byte/1x": 1.9, "bits_per_byte/2x": 2.5, "bits_per_byte/4x": 3.0}
            )
        )
        old = evaluation("by_position", {"bits_per_byte": 99.0, "loss": 2.0}, step=10)
        (run / "evaluations" / "by_position-0.json").write_bytes(old)
        (run / "evaluations" / "recall-1.json").write_text("{torn")
    page = Page(page_html(compared(folder)))
    assert page.table("by_position: means over the seeds")[1:] == [["kv4", "2", "2.5000", "2.0000"]]
    section = page.root.one("section", id="evaluations")
    assert len(section.all("div", kind="chart")) == 2
    assert "recall-1.json: JSONDecodeError" in section.text
    assert "Evaluations" not in [heading.text for heading in Page(page_html(comparison)).root.all("h2")]


def test_settings_changed_for_an_evaluation_make_a_line_of_their_own(tmp_path):
    folder = tmp_path / "outputs" / "yarn"
    write_study(folder, gqa_arms()[:1], (1,))
    run = next(path for path in folder.iterdir() if path.is_dir())
    (run / "evaluations").mkdir()
    for factor in (None, 2, 4):
        model = {"model.position.factor": factor} if factor else {}
        text = evaluation("bits_per_byte", {"bits_per_byte": 2.0 + (factor or 0)}, model=model)
        (run / "evaluations" / f"bits_per_byte-{factor}.json").write_bytes(text)
    rows = Page(page_html(compared(folder))).table("bits_per_byte: means over the seeds")[1:]
    assert [row[0] for row in rows] == ["kv8", "kv8 (model.position.factor=2)", "kv8 (model.position.factor=4)"]
    assert [row[2] for row in rows] == ["2.0000", "4.0000", "6.0000"]


def test_quality_is_drawn_against_the_time_of_a_token_where_decode_was_saved(tmp_path):
    folder = tmp_path / "outputs" / "decoded"
    write_study(folder, gqa_arms()[:2], (1,))
    assert "decoding, ms per token of one text" not in page_html(compared(folder))
    for run in (path for path in folder.iterdir() if (path / "summary.json").is_file()):
        (run / "evaluations").mkdir()
        took = 2.0 + run.name.startswith("kv4")
        (run / "evaluations" / "decode-1.json").write_bytes(evaluation("decode", {"ms_per_token": took}))
        changed = evaluation("decode", {"ms_per_token": 99.0}, model={"model.position.factor": 2})
        (run / "evaluations" / "decode-2.json").write_bytes(changed)
    text = page_html(compared(folder))
    assert "decoding, ms per token of one text" in text
    assert [arm.figures["decode/ms_per_token"].mean for arm in priced(compared(folder)).arms] == [2.0, 3.0]


def priced(comparison):
    return with_decoding(comparison, read_saved_evaluations(comparison)[0])


def test_a_study_of_which_nothing_has_ended_has_a_page_and_no_figure(tmp_path):
    folder = tmp_path / "outputs" / "none"
    write_study(folder, [replace(arm, states={1: "failed", 2: "missing"}) for arm in gqa_arms()], (1, 2))
    comparison = compared(folder)
    page = Page(page_html(comparison))
    assert "4 failed, 4 missing" in page.root.one("section", id="problems").text
    with pytest.raises(ValueError, match="no run has ended"):
        means(comparison)


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_few_seeds_and_runs_without_a_plan_have_a_page(tmp_path, seeds):
    folder = tmp_path / "outputs" / "few"
    write_study(folder, gqa_arms()[:3], seeds, ledger=False)
    comparison = compared(folder)
    page = Page(page_html(comparison))
    assert len(page.table("Verdicts: one row an arm")) == 4
    assert not page.root.all("section", id="prediction")
    ET.fromstring(svg(specification(means(comparison))))


def test_equal_runs_and_runs_that_never_validated_have_a_page(tmp_path):
    folder = tmp_path / "outputs" / "same"
    write_study(
        folder, [FakeArm("a"), FakeArm("b", config={"optim.lr": 1.0})], (1, 2), noise=0.0, validations=0, rows=1
    )
    comparison = compared(folder)
    page = Page(page_html(comparison))
    assert {row["figure"] for row in page.rows("curves", "seed0")} == {"train/loss"}
    ET.fromstring(svg(specification(means(comparison))))


def test_the_intervals_of_a_sequential_study_are_called_what_they_are(comparison):
    arms = [
        replace(arm, contrast=replace(arm.contrast, alpha=0.0125)) if arm.contrast else arm for arm in comparison.arms
    ]
    page = Page(page_html(replace(comparison, arms=arms)))
    headings = page.table("Verdicts: one row an arm")[0]
    assert "bits per byte mean and 95 % interval" in headings
    assert "difference to the baseline, 98.75 %" in headings


def test_higher_is_better_turns_the_arrows_round(comparison):
    text = page_html(replace(comparison, direction="higher"))
    assert "Higher is better" in text
    assert "better →" in text
    assert "better →" not in page_html(comparison)


@pytest.mark.slow
def test_24_arms_of_3_seeds_with_400_rows_make_less_than_a_megabyte_and_a_half(tmp_path):
    folder = tmp_path / "outputs" / "many"
    arms = [FakeArm(f"arm-number-{index}", 0.002 * index, {"optim.lr": 0.001 * (1 + index)}) for index in range(24)]
    write_study(folder, arms, rows=400, validations=400)
    text = page_html(compared(folder))
    assert len(text.encode()) < 1_500_000
    rows = [row for row in Page(text).rows("curves", "seed0") if row["index"] == 23 and row["figure"] == "train/loss"]
    assert len(rows) >= 60, "small because it is thin"


@pytest.mark.slow
def test_so_does_a_page_of_24_arms_of_four_factors(tmp_path):
    write_study(tmp_path / "many", four_factors(), rows=400, validations=400, ledger=False)
    assert len(page_html(compared(tmp_path / "many")).encode()) < 1_500_000
