"""A mistake of the user's is one line and status 2; a fault of the program keeps its traceback, whatever it raises."""

import ast
import importlib
import math
import subprocess
import sys
from pathlib import Path

import cli
import pytest

from atomiclm.cli import UserError, command_parser, from_user


def broken(*_, **__):
    """As a bug somewhere in a computation would: `ValueError: math domain error`, or `expected a positive input`."""
    return math.log(-1.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = cli.run(folder, "train", *cli.TINY, "data=text", f"data.path={cli.corpus(folder)}", "trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    return cli.only_run(folder)


ACTING = {
    "compare": ("atomiclm.comparison.analysis._arm", ["RUN"]),
    "evaluate": ("atomiclm.evaluation.bits_per_byte.BitsPerByte.measure", ["RUN"]),
    "evaluate --set": ("atomiclm.config.evaluating.load_run", ["RUN", "--set", "model.position.theta=400"]),
    "export": ("atomiclm.interop.huggingface.save.to_theirs", ["RUN", "DIR"]),
    "export an architecture": ("atomiclm.interop.huggingface.architecture.Architecture.write", ["RUN", "DIR"]),
    "export tiktoken": ("atomiclm.interop.tiktoken.recover_merges", ["RUN", "DIR", "--format", "tiktoken"]),
    "generate": ("atomiclm.generation.sampler.Sampler.__call__", ["RUN"]),
    "sync": ("atomiclm.tracking.wandb_mirror.WeightsAndBiases.finish", ["RUN", "--offline"]),
    "workspace": ("atomiclm.workspace.differing_columns", ["RUN", "--dry-run"]),
}
"""Of commands that act on runs: a function that computes, and the arguments."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTING)
def test_a_fault_of_the_program_is_not_told_as_the_users(name, trained, tmp_path, monkeypatch):
    place, arguments = ACTING[name]
    main = importlib.import_module(f"atomiclm.{name.split()[0]}").main
    monkeypatch.setattr(place, broken)
    monkeypatch.setenv("ATOMICLM_CACHE", str(trained.parents[2] / "cache"))
    named = {"RUN": str(trained), "DIR": str(tmp_path / "new")}
    with pytest.raises(ValueError, match=r"math domain|positive input") as raised:  # which Python ends with status 1
        main([named.get(argument, argument) for argument in arguments])
    assert not isinstance(raised.value, UserError)


COMPOSING = {
    "train": ("atomiclm.data.prepare._encode", []),
    "train a step": ("atomiclm.run.Run._facts", []),
    "prepare": ("atomiclm.data.prepare._encode", []),
    "plan": ("atomiclm.plan.machine_rate", []),
}
"""Of commands that compose a configuration, and end the process themselves."""


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSING)
def test_a_fault_under_hydra_keeps_its_traceback_and_is_status_1(name, tmp_path):
    place, arguments = COMPOSING[name]
    command = name.split()[0]
    code = (
        f"import math, sys, atomiclm.{command} as command\nfrom pkgutil import resolve_name\n"
        f"place, _, name = {place!r}.rpartition('.')\n"
        "setattr(resolve_name(place), name, lambda *_, **__: math.log(-1.0))\n"
        "command.main()"
    )
    words = [*cli.TINY, "data=text", f"data.path={cli.corpus(tmp_path)}", "trainer.max_steps=2", *arguments]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path, env=cli.environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("ValueError: ")


@pytest.mark.parametrize(
    ("typed", "end"), [("--temprature=3", "; did you mean --temperature?"), ("--zzz", "--zzz")], ids=["near", "far"]
)
def test_a_flag_that_is_misspelt_is_named(typed, end, capsys):
    parser = command_parser("generate", None, "")
    parser.add_argument("--temperature")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([typed])
    assert capsys.readouterr().err.rstrip().endswith(end)


def test_only_what_constructors_refuse_becomes_the_users():
    with pytest.raises(UserError, match=r"^at least 1$") as raised, from_user():
        raise ValueError("at least 1")
    assert type(raised.value) is UserError
    with pytest.raises(KeyError), from_user():
        {}["x"]
    kind = type("Own", (UserError,), {})
    with pytest.raises(kind), from_user():
        raise kind("stays what it is")


def test_messages_are_in_plain_words():
    """Texts that are no docstrings: nobody says anew."""
    for file in (Path(cli.__file__).parents[1] / "atomiclm").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        assert not [text.value for text in texts if id(text) not in docstrings and " anew" in text.value], file
