"""The first thing a command prints, as whoever pressed Enter meets it."""

import subprocess
import sys

import pytest
from cli import TINY, corpus, environment

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
