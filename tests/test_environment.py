"""Facts about the machine and the source, or null."""

import json
import os
import subprocess
import sys

import pytest

from atomiclm import machine
from atomiclm.machine import environment


def git(root, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "atomiclm").mkdir()
    (tmp_path / "atomiclm" / "a.py").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_facts_are_json_and_true(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    facts = environment()
    json.dumps(facts, allow_nan=False)
    assert facts["python"] == sys.version.split()[0]
    assert facts["cores"] == os.cpu_count()
    assert facts["variables"]["OMP_NUM_THREADS"] == "7"
    assert facts["versions"]["wandb"] is not None
    assert os.uname().nodename not in json.dumps(facts["host_sha256"])


def test_the_source_is_known_by_commit_and_difference(checkout):
    clean = machine._source(checkout)
    assert clean["dirty"] is False
    assert clean["diff_sha256"] is None
    assert len(clean["commit"]) == 40

    (checkout / "notes.txt").write_text("mine\n")  # untracked, and no source
    assert machine._source(checkout) == clean

    (checkout / "atomiclm" / "a.py").write_text("two\n")
    changed = machine._source(checkout)
    assert changed["dirty"] is True
    assert changed["commit"] == clean["commit"]

    (checkout / "atomiclm" / "b.py").write_text("new\n")
    added = machine._source(checkout)
    (checkout / "atomiclm" / "b.py").write_text("newer\n")
    assert len({changed["diff_sha256"], added["diff_sha256"], machine._source(checkout)["diff_sha256"]}) == 3


def test_a_wheel_inside_somebody_elses_repository_has_no_commit(checkout):
    installed = checkout / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    assert machine._source(installed) is None


def test_what_cannot_be_had_is_null(monkeypatch):
    def broken(*arguments, **keywords):
        raise RuntimeError("no")

    monkeypatch.setattr(subprocess, "run", broken)
    monkeypatch.setattr(machine, "processor_name", broken)
    monkeypatch.setattr(machine.importlib.metadata, "version", broken)
    monkeypatch.setattr(machine.platform, "node", broken)
    facts = environment()
    assert facts["cpu"] is None
    assert facts["host_sha256"] is None
    assert set(facts["versions"].values()) == {None}


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from atomiclm.machine import environment; facts = environment(); assert facts['torch'] is None;"
        "heavy = {'torch', 'wandb', 'numpy', 'hydra', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
