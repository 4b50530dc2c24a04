"""No code comes out of a file: what the sources say, and what a run does."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli import TINY, corpus, environment, only_run

ROOT = Path(__file__).parents[2]
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.save", "np.load", "numpy.load", "os.system",
    "os.popen", "runpy.run_path", "runpy.run_module", "torch.jit.load", "torch.hub.load", "yaml.full_load",
    "yaml.unsafe_load", "yaml.load_all",
}  # fmt: skip

SAFE = {"_LOADER", "yaml.SafeLoader"}  # the first is the second, or its twin in C, and a test below says so


def _calls(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _forbidden(source: str) -> set[str]:
    tree = ast.parse(source)
    found = {name for name, _ in _calls(tree)} & CALLS
    for name, node in _calls(tree):
        if name == "yaml.load" and not any(ast.unparse(word) in SAFE for word in [*node.args, *node.keywords]):
            found.add("yaml.load without a safe loader")
        if any(word.arg == "shell" or word.arg == "allow_pickle" for word in node.keywords):
            found.add(f"{name}(shell or allow_pickle)")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            found.add(node.module)
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from marshal import loads", "eval('1')", "torch.load(path)", "np.load(p, allow_pickle=True)",
     "subprocess.run('x', shell=True)", "yaml.load(text, Loader=yaml.Loader)",
     "import torch\ndef f():\n    return torch.load('x')"],
)  # fmt: skip
def test_the_audit_sees(source):
    assert _forbidden(source)


def test_no_source_of_ours_runs_what_it_reads():
    found = {
        str(file.relative_to(ROOT)): _forbidden(file.read_text(encoding="utf-8"))
        for file in (ROOT / "atomiclm").rglob("*.py")
    }
    assert {file: names for file, names in found.items() if names} == {}
    for file in (ROOT / "atomiclm").rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("_LOADER"):
                assert re.fullmatch(r'_LOADER.* = getattr\(yaml, "CSafeLoader", yaml\.SafeLoader\).*', line), file


WATCHED = """
import runpy, sys
found = []
def hook(event, arguments):
    if event == "pickle.find_class":
        found.append(f"{arguments} by {sys._getframe(1).f_code.co_filename}")
sys.addaudithook(hook)
try:
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
finally:
    print("PICKLES", found, file=sys.stderr)
"""


def _watched(folder: Path, module: str, *arguments: str) -> str:
    code = WATCHED.replace("MODULE", repr(f"atomiclm.{module}"))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env={**os.environ, **environment(folder)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("PICKLES")]
    return line


@pytest.mark.slow
def test_no_pickle_is_opened_while_training_resuming_and_sampling(tmp_path):
    text = corpus(tmp_path)
    overrides = (*TINY, "data=text", f"data.path={text}")
    assert _watched(tmp_path, "train", *overrides, "trainer.max_steps=2") == "PICKLES []"
    run = only_run(tmp_path)
    summary = run / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"state": "failed"}))  # so that it is gone on with
    assert _watched(tmp_path, "train", *overrides, "trainer.max_steps=2") == "PICKLES []"
    assert len(json.loads((run / "environment.json").read_text())["processes"]) == 2
    assert _watched(tmp_path, "generate", str(run), "--prompt", "the", "--max-tokens", "4") == "PICKLES []"
