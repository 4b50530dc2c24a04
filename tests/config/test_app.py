"""What every command does before it looks at a configuration."""

import importlib
import subprocess
import sys

import pytest
from cli import environment

from atomiclm import __version__

COMPOSING = ("train", "plan", "prepare")
COMMANDS = (*COMPOSING, "compare", "evaluate", "export", "generate", "sync", "workspace")


@pytest.mark.parametrize("name", COMMANDS)
def test_version_is_that_of_atomiclm(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    try:
        status = importlib.import_module(f"atomiclm.{name}").main()
    except SystemExit as end:
        status = end.code
    assert not status
    assert capsys.readouterr().out == f"atomiclm {__version__}\n"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["train", "prepare"])
def test_one_of_several_processes_is_refused_in_one_line_before_torch(name, tmp_path):
    code = (
        f"import atexit, sys; from atomiclm.{name} import main; "
        "atexit.register(lambda: print('torch' in sys.modules)); main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment(tmp_path), "WORLD_SIZE": "2", "RANK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("WORLD_SIZE=2: a run is trained by one process")
    assert ended.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []
