"""The first thing a command prints, as whoever pressed Enter meets it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli import TINY, corpus, environment

from atomiclm.__main__ import COMMANDS, main

WATCHED = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "omegaconf"):
            os.write(1, f"importing {name}\\n".encode())
sys.meta_path.insert(0, Watch())
from atomiclm.COMMAND import main
main()
"""
"""Runs a command that notes imports on the same pipe, unbuffered: the order of lines is the order of events."""


def _lines(folder, name, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.replace("COMMAND", name), *arguments],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["train", "prepare"])
def test_what_is_done_is_said_before_it_is_begun_also_through_a_pipe(tmp_path, name):
    """Nothing was printed for 20 s after Enter."""
    text = (f"data.path={corpus(tmp_path)}", "data=text")
    lines = _lines(tmp_path, name, *TINY, *text, "trainer.max_steps=2", "schedule.warmup_steps=0")
    assert lines[:2] == ["importing omegaconf", "checking the configuration"]
    if name == "train":
        begun = [lines.index(line) for line in ("importing torch", "reading", "building the model")]
        assert begun == sorted(begun)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["--help", "--cfg=job"])
def test_a_question_gets_its_answer_and_nothing_else(tmp_path, asked):
    assert not any("checking" in line for line in _lines(tmp_path, "train", asked))


HELP = """
import contextlib, io, sys
from atomiclm.__main__ import COMMANDS, main
for name in ["", *COMMANDS]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([name, "--help"] if name else [])
    assert f"usage: atomiclm {name}".strip() in out.getvalue(), name
    assert "atomiclm " in out.getvalue().partition("examples")[2], name
    heavy = {"torch", "numpy", "numba", "wandb"} & set(sys.modules)
    assert not heavy, (name, heavy)
    if name == "":
        assert not {"hydra", "rich", "yaml"} & set(sys.modules)
"""


def test_every_help_has_examples_and_imports_nothing_heavy(tmp_path):
    subprocess.run([sys.executable, "-c", HELP], cwd=tmp_path, env=environment(tmp_path), check=True)


def test_every_command_has_a_line_in_the_help_of_all():
    package = Path(__file__).parents[2] / "atomiclm"
    acting = {file.stem for file in package.glob("[a-z]*.py") if "def main(" in file.read_text(encoding="utf-8")}
    assert acting == set(COMMANDS)


@pytest.mark.parametrize(("typed", "advice"), [("trian", "did you mean 'train'?"), ("xyz", "the commands are train, ")])
def test_an_unknown_command_is_told_the_nearest(typed, advice, capsys):
    with pytest.raises(SystemExit) as ended:
        main([typed])
    assert ended.value.code == 2
    assert advice in capsys.readouterr().err


TAB = """
eval "$(atomiclm completion bash)"
for COMP_LINE in "$@"; do
  COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
  _python_argcomplete atomiclm 2> /dev/null
  printf '%s,' "${COMPREPLY[@]}"; echo
done
"""


def test_a_shell_completes_commands_flags_settings_and_runs(tmp_path):
    run = tmp_path / "outputs" / "runs" / "dim=64-0123456789ab"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    cases = {
        "atomiclm tr": "train ,",
        "atomiclm evaluate --protocol s": "sliding ,",
        "atomiclm evaluate dim": "dim=64-0123456789ab ,",
        "atomiclm train -m model/attention=m": "mha,mla,mqa,",
        "atomiclm train optim=muon optim.mom": "optim.momentum=,",
        "atomiclm plan experiments=gqa_ratio arm=kv4": "kv4,kv4_matched,",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", TAB, "bash", *cases], cwd=tmp_path, env={**environment(tmp_path), "PATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert dict(zip(cases, done.stdout.splitlines(), strict=True)) == cases
