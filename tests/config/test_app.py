"""What every command does before it looks at a configuration."""

import importlib
import subprocess
import sys

import pytest
from cli import TINY, corpus, environment

from atomiclm import __version__

COMPOSING = ("train", "plan", "prepare")
COMMANDS = (*COMPOSING, "compare", "evaluate", "export", "generate", "inspect", "sync", "workspace")


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
@pytest.mark.parametrize(
    ("name", "arguments", "rule"),
    [
        ("train", ["-m", "seed=1,2"], "WORLD_SIZE=2: the cells of a sweep are trained by a process each"),
        ("prepare", [], "WORLD_SIZE=2: this command is one process"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_in_one_line_before_torch(name, arguments, rule, tmp_path):
    code = (
        f"import atexit, sys; from atomiclm.{name} import main; "
        "atexit.register(lambda: print('torch' in sys.modules)); main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={**environment(tmp_path), "WORLD_SIZE": "2", "RANK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(rule)
    assert ended.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []


def test_a_run_loads_no_compiler_and_nothing_it_does_not_use(tmp_path):
    """Torch loads its compiler when an optimizer clears its gradients: two seconds of every start."""
    code = (
        "import atexit, sys; from atomiclm.train import main; heavy = {'torch._dynamo', 'torch._inductor', 'sympy', "
        "'pandas', 'altair', 'wandb', 'pyarrow', 'transformers'}; "
        "atexit.register(lambda: print('loaded', sorted(heavy & sys.modules.keys()))); main()"
    )
    for steps in (2, 3):  # trained, then a longer run that goes on from its checkpoint
        overrides = [*TINY, f"trainer.max_steps={steps}", "data=text", f"data.path={corpus(tmp_path)}"]
        overrides.append("trainer.objective.chunk_tokens=16")
        if steps == 3:
            overrides.append(f"trainer.branch_from={next((tmp_path / 'outputs/runs').iterdir())}")
        ended = subprocess.run(
            [sys.executable, "-c", code, *overrides],
            cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == "loaded []"
