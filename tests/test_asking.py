"""Commands that ask do not act: they leave every file of the working folder as it was, and make none."""

import json
from pathlib import Path

import pytest
from cli import TINY, corpus, environment, only_run, run
from config.sketched import MINE, write_experiment

from atomiclm import compare, evaluate, export, generate, sync, workspace
from atomiclm.sweep.ledger import Cell, StudyLedger, write_ledger
from atomiclm.sweep.study import Study

RUN = ("data=text", "data.path=corpus.txt", *TINY, "trainer.max_steps=2")
COMPOSING = {
    "plan": ("plan", *RUN),
    "plan of a study": ("plan", MINE),
    "plan of a sweep": ("plan", "-m", *RUN, "optim.lr=0.1,0.2", "seed=1,2"),
    "plan of a study as a sweep": ("plan", "-m", MINE, "seed=1"),
    "plan --cfg": ("plan", "--cfg", "job", *RUN),
    "prepare of a sweep": ("prepare", "-m", *RUN, "optim.lr=0.1,0.2"),
    "prepare --cfg": ("prepare", "--cfg", "job", *RUN),
    "train --cfg": ("train", "--cfg", "job", MINE, "arm=wide"),
    "train --help": ("train", "--help"),
    "train --version": ("train", "--version"),
}
ASKING = {
    "compare": (compare.main, ["outputs/runs"]),
    "compare --format runs": (compare.main, ["outputs/runs", "--format", "runs"]),
    "evaluate": (evaluate.main, ["{run}", "--protocol", "bits_per_byte", "by_position"]),
    "evaluate --again": (evaluate.main, ["{run}", "--again"]),
    "generate": (generate.main, ["{run}", "--prompt", "the cat", "--max-tokens", "3"]),
    **{
        f"{module.__name__.rpartition('.')[2]} {flag}": (module.main, [flag])
        for module in (compare, evaluate, export, generate, sync, workspace)
        for flag in ("--help", "--version")
    },
}


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path in a folder with its bytes; the caches are left out."""
    inside = {path.relative_to(folder): path for path in folder.rglob("*")}
    return {
        str(name): path.read_bytes() if path.is_file() else None
        for name, path in inside.items()
        if name.parts[0] != "cache"
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a study that nobody has begun, and a finished run with the ledger of its sweep."""
    folder = tmp_path_factory.mktemp("asking")
    write_experiment(folder)
    corpus(folder)
    done = run(folder, "train", *RUN, "evaluation.samples=0", "evaluation.times=1")
    assert done.returncode == 0, done.stderr
    found = only_run(folder)
    cell = Cell("as it is", 1, found.name, [*RUN, "seed=1"])
    write_ledger(found.parent, StudyLedger("runs", "atomiclm train -m seed=1", [cell], Study()))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPOSING)
def test_a_command_that_composes_writes_nothing(folder, case):
    before = tree(folder)
    asked = run(folder, *COMPOSING[case])
    assert asked.returncode == 0 or "--version" in case, asked.stderr
    assert tree(folder) == before
    assert "done" not in asked.stderr


@pytest.mark.parametrize("case", ASKING)
def test_a_command_that_reads_writes_nothing(folder, case, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ATOMICLM_CACHE", environment(folder)["ATOMICLM_CACHE"])
    before = tree(folder)
    main, arguments = ASKING[case]
    try:
        status = main([argument.format(run=only_run(folder)) for argument in arguments])
    except SystemExit as ended:  # argparse
        status = ended.code
    assert status == 0 or "--version" in case, capsys.readouterr().err
    assert tree(folder) == before


@pytest.mark.parametrize("command", ["train", "plan"])
def test_json_is_one_object_on_standard_output_and_quiet_leaves_the_result_alone(folder, command):
    summary = json.loads((only_run(folder) / "summary.json").read_text())
    words = (command, *RUN, "evaluation.samples=0", "evaluation.times=1")
    asked, quiet = run(folder, *words, "--json"), run(folder, *words, "--quiet")
    found = json.loads(asked.stdout)
    assert asked.stdout.count("\n") == 1
    assert asked.stderr.startswith("checking the configuration\n")
    if command == "train":
        assert found == {"run": f"outputs/runs/{only_run(folder).name}", **summary}  # the flags are no part of the run
        assert (
            quiet.stdout == f"{found['run']} is done already: {summary['validation/bits_per_byte']:.4f} bits per byte\n"
        )
    else:
        assert found["arms"][0]["parameters"] == summary["parameters"]
        assert f"{summary['parameters']:,}" in quiet.stdout
    assert quiet.stderr == ""
