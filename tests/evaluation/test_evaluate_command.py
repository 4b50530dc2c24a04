"""`atomiclm evaluate` on a real run: what it keeps, what it finds again, what it refuses."""

import csv
import errno
import io
import json
import shutil
from types import SimpleNamespace

import pytest
from cli import TINY, corpus, environment, only_run, run

from atomiclm.config.evaluating import LoadedRun, with_model_settings
from atomiclm.evaluate import PROTOCOLS, _protocols, main, parser
from atomiclm.evaluation import Described, read_evaluations
from atomiclm.evaluation.results import NotFinite
from atomiclm.generate import main as generate
from atomiclm.tracking import RunFolder
from atomiclm.tracking.run_result import read_run
from atomiclm.training import Runtime


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = run(
        folder, "train", "data=text", f"data.path={corpus(folder)}", *TINY, "trainer.max_steps=50", "optim.lr=0.01",
        "evaluation.times=1", "evaluation.samples=0", "model.position.theta=500",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return only_run(folder)


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of the run, to be written in."""
    monkeypatch.setenv("ATOMICLM_CACHE", environment(trained.parents[2])["ATOMICLM_CACHE"])
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "outputs" / "runs" / trained.name)


def evaluated(capsys, *arguments):
    status = main([*(str(argument) for argument in arguments), "--save"])
    return status, capsys.readouterr()


def figures(capsys, *arguments):
    status, printed = evaluated(capsys, *arguments, "--format", "json")
    assert status == 0, printed.err
    return [each["figures"] for each in json.loads(printed.out)]


@pytest.mark.slow
def test_the_headline_is_the_runs_own_and_of_the_same_protocol(folder, capsys):
    summary = json.loads((folder / "summary.json").read_text())
    (found,) = figures(capsys, folder)
    assert found == {name: summary[f"validation/{name}"] for name in ("loss", "bits_per_byte")}
    (kept,) = read_evaluations(folder)
    own = read_run(RunFolder(folder))
    described = own.summary["protocol"]
    assert (
        kept.protocol.comparability == summary["validation/protocol"] == Described.from_facts(described).comparability
    )
    assert kept.protocol.recorded.items() >= {"context_length": 32, "precision": "float32"}.items()
    assert kept.step == summary["step"]


@pytest.mark.slow
def test_what_was_asked_is_not_computed_again_unless_wanted(folder, capsys, monkeypatch):
    asked = (folder, "--protocol", "bits_per_byte", "sliding", "--stride", "8")
    first = figures(capsys, *asked)

    def refuse(self, protocol, batch_size):
        raise NotFinite(f"measured {protocol.name}")

    with monkeypatch.context() as patched:
        patched.setattr(LoadedRun, "measured", refuse)
        assert figures(capsys, *asked, "--batch-size", "3") == first
        status, printed = evaluated(capsys, *asked)
        assert (status, printed.out.count("saved before")) == (0, 2)
        for other in (("--again",), ("--stride", "16"), ("--set", "model.position.theta=400")):
            assert evaluated(capsys, *asked, *other)[0] == 1
    assert figures(capsys, *asked, "--again") == first
    assert len(read_evaluations(folder)) == 2
    figures(capsys, *asked, "--stride", "16")
    assert len(read_evaluations(folder)) == 3


def test_nothing_is_kept_unless_asked(folder, capsys):
    assert main([str(folder)]) == 0
    assert "bits per byte" in capsys.readouterr().out
    assert not (folder / "evaluations").exists()
    figures(capsys, folder)
    (kept,) = (folder / "evaluations").iterdir()
    before = kept.stat().st_mtime_ns
    assert main([str(folder), "--again"]) == 0
    assert "saved before" not in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before


def test_all_protocols_print_in_every_format(folder, capsys):
    asked = (folder, "--protocol", "by_position", "length_extrapolation", "induction", "--lengths", "2,1")
    asked += ("--distances", "32,40")
    status, printed = evaluated(capsys, *asked)
    assert status == 0, printed.err
    for wanted in ("from position", "beyond_bits_per_byte", "2x", "copy_accuracy", "trained_length 32"):
        assert wanted in printed.out
    status, printed = evaluated(capsys, *asked, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    kept = {f"{name}": value for one in read_evaluations(folder) for name, value in one.measured.figures.items()}
    assert {row["figure"] for row in rows} == set(kept)
    assert all(float(row["value"]) == kept[row["figure"]] for row in rows if "/" in row["figure"])
    assert {row["protocol"].partition("-")[0] for row in rows} == {"by_position", "length_extrapolation", "induction"}


def test_figures_that_cannot_be_kept_are_shown_all_the_same(folder, capsys, monkeypatch):
    def read_only(path, content):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("atomiclm.evaluate.write_atomic", read_only)
    asked = (folder, "--protocol", "bits_per_byte", "by_position")
    status, printed = evaluated(capsys, *asked)
    assert status == 1
    assert "bits per byte" in printed.out
    assert "from position" in printed.out
    assert "Read-only file system: the figures were not saved" in printed.err
    assert str(folder / "evaluations") in printed.err
    status, printed = evaluated(capsys, *asked, "--format", "json")
    assert (status, len(json.loads(printed.out))) == (1, 2)


@pytest.mark.slow
def test_a_scaling_by_one_is_the_position_scheme_that_was_trained_theta_and_all(folder, capsys):
    (plain,) = figures(capsys, folder)
    for scheme in ("yarn", "position_interpolation", "ntk"):
        (same,) = figures(capsys, folder, "--set", "model.position.factor=1", f"model/position={scheme}")
        assert same == pytest.approx(plain, rel=1e-6)
        (stretched,) = figures(capsys, folder, "--set", f"model/position={scheme}", "model.position.factor=8")
        assert stretched["loss"] != pytest.approx(plain["loss"], rel=1e-6)
    kept = {str(sorted(one.model.items())): one for one in read_evaluations(folder)}
    assert len(kept) == 7
    assert all("position.theta" not in one.model for one in kept.values())
    (other,) = figures(
        capsys, folder, "--set", "model/position=ntk", "model.position.factor=1", "model.position.theta=9"
    )
    assert other["loss"] != pytest.approx(plain["loss"], rel=1e-6)


def test_options_keep_what_was_trained_and_values_come_after_them():
    position = {"_target_": "atomiclm.model.RotaryEmbedding", "_partial_": True, "theta": 7.0, "layout": "half"}
    values = {"model": trained_node(position), "tokenizer": {"_target_": "atomiclm.tokenizer.BasicTokenizer"}}
    node = with_model_settings(values, ["model.position.factor=3", "model/position=dynamic_ntk"])["model"]["position"]
    expected = {"theta": 7.0, "layout": "half", "factor": 3.0, "_target_": "atomiclm.model.DynamicNTK"}
    assert node.items() >= expected.items()
    assert values["model"]["position"] == position


def trained_node(position):
    from small_model import model_node

    return {**model_node(), "position": position}


def test_answers_are_asked_for_unasked_where_a_source_knows_them():
    arguments = parser().parse_args(["run"])
    knowing, other = (SimpleNamespace(knows_answers=knows, runtime=Runtime("cpu")) for knows in (True, False))
    assert [protocol.name for protocol in _protocols(arguments, knowing)] == ["bits_per_byte", "recall"]
    assert [protocol.name for protocol in _protocols(arguments, other)] == ["bits_per_byte"]
    asked = parser().parse_args(["run", "--protocol", *PROTOCOLS, "sliding"])
    assert [protocol.name for protocol in _protocols(asked, knowing)] == list(PROTOCOLS)


MISUSE = [
    (["--set", "model.position.thta=3"], "RotaryEmbedding takes no such argument; did you mean 'theta'?"),
    (["--set", "model/position=yran"], "yran is none of its options; choose one of alibi"),
    (["--set", "model/positions=yarn"], "model has no such part"),
    (["--set", "model/position=learned"], "position.embedding.weight is missing"),
    (["--set", "model.dim=64"], "blocks.0.attention.key.weight is [16, 32]"),
    (["--set", "model.position.theta=0.5"], "  model.position.theta: theta=0.5 must be greater than 1"),
    (["--set", "optim.lr=3"], "optim.lr: is no setting of the model"),
    (["--set", "model=tiny"], "would be another model"),
    (["--set", "~model.position"], "sets no single value"),
    (["--set", "model.position.theta=1,2"], "sets no single value"),
    (["--set", "model.position.theta=${nowhere}"], "nowhere"),
    (["--set", "theta"], "cannot be read"),
    (["--protocol", "sliding", "--stride", "33"], "stride: 33 is more than the context of 32 tokens"),
    (["--protocol", "sliding", "--stride", "0"], "stride: 0 is not positive"),
    (["--protocol", "length_extrapolation", "--lengths", "1,900"], "lengths: 900 x 32 tokens are more than the"),
    (["--protocol", "length_extrapolation", "--lengths", "0"], "lengths: [0] are no"),
    (["--protocol", "induction", "--distances", "8"], "distances: [8] must each be at least string_tokens=32"),
    (["--protocol", "recall"], "no source of this run knows its answers"),
    (["--source", "books"], "source: there is no source 'books'; the corpus is not a mixture"),
    (["--device", "mps"], "device=mps is not available"),
]


def test_misuse_is_one_message_and_leaves_nothing_behind(folder, capsys):
    for arguments, message in MISUSE:
        status, printed = evaluated(capsys, folder, *arguments)
        assert status == 2, arguments
        assert message in printed.err, (arguments, printed.err)
        assert "Traceback" not in printed.err
        assert printed.out == ""
    assert not (folder / "evaluations").exists()
    for arguments in (["--lengths", "1;2"], ["--protocol", "glide"], ["--batch-size", "0"]):
        with pytest.raises(SystemExit) as stopped:
            main([str(folder), *arguments])
        assert stopped.value.code == 2
        assert "error: argument" in capsys.readouterr().err


def test_one_run_that_cannot_be_evaluated_does_not_stop_the_others(folder, capsys):
    status, printed = evaluated(capsys, "outputs/runs/nothing", folder)
    assert status == 2
    assert "bits per byte" in printed.out
    assert "nothing" in printed.err


def test_a_result_that_cannot_be_kept_is_status_1_and_a_damaged_one_is_named(folder, capsys):
    (folder / "evaluations").write_text("in the way")
    assert evaluated(capsys, folder)[0] == 1
    (folder / "evaluations").unlink()
    assert evaluated(capsys, folder)[0] == 0
    (kept,) = (folder / "evaluations").iterdir()
    kept.write_text("{")
    status, printed = evaluated(capsys, folder)
    assert status == 2
    assert "evaluate --save writes it again" in printed.err
    assert evaluated(capsys, folder, "--again")[0] == 0


def test_a_text_that_has_changed_is_refused(folder, capsys):
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "validation_sha256": "0" * 64}))
    status, printed = evaluated(capsys, folder)
    assert status == 2
    assert "the validation bytes are others (000000000000, now" in printed.err


@pytest.mark.slow
def test_the_command_itself_says_what_is_wrong_without_a_traceback(trained):
    done = run(trained.parents[2], "evaluate", str(trained), "--quiet", "--set", "model/position=yran")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("atomiclm evaluate: The configuration has 1 fault:")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "name"), [
    (main, "config.yaml"), (main, "summary.json"), (main, "tokenizer.json"), (main, "checkpoints"),
    (generate, "config.yaml"), (generate, "tokenizer.json"), (generate, "checkpoints"),
])  # fmt: skip
def test_a_part_of_the_run_that_is_missing_is_named_with_what_brings_it_back(folder, capsys, command, name):
    (folder / name).rename(folder / "elsewhere")
    assert command([str(folder), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{folder / name}" in said
    remedy = "atomiclm train data=text "
    assert (f"rm -r {folder} && {remedy}" if name == "checkpoints" else f"type: {remedy}") in said
