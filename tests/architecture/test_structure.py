"""What docs/code.md promises: who imports whom, what is cheap to import, and a map that names what is there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "atomiclm"
FILES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = {
    "tokenizer": set(),
    "data": set(),
    "model": set(),
    "optim": set(),
    "tracking": set(),
    "generation": {"model", "tokenizer"},
    "inspection": {"model", "tokenizer", "tracking", "comparison"},  # the comparison's page has the style of all
    "evaluation": {"model", "data"},
    "training": {"model", "optim", "data", "tracking"},
    "comparison": {"tracking", "sweep", "config"},
    "sweep": {"config", "tracking", "comparison"},  # a sequential study asks for its verdicts
    "interop": {"model", "tokenizer"},
}
"""What each package may import of the others; `config` and the commands may import everything."""


def _imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package):
    for file in (PACKAGE / package).rglob("*.py"):
        others = {name.split(".")[1] for name in _imported(file) if re.match(r"atomiclm\.\w+", name)}
        assert others <= ALLOWED[package] | {
            package,
            "atomic_io",
            "cli",
            "machine",
            "roles",
        }, file


def test_only_config_and_the_commands_that_compose_know_hydra():
    users = {
        file.relative_to(PACKAGE).as_posix()
        for file in FILES
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in _imported(file))
    }
    assert {name for name in users if not name.startswith("config/")} == {"train.py", "plan.py", "prepare.py"}


def test_of_hydra_only_what_is_public_is_used():
    for file in [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]:
        assert not any("hydra._internal" in name for name in _imported(file)), file


def test_nothing_reads_pickles():
    for file in FILES:
        assert not {"pickle", "marshal", "shelve", "dill", "cloudpickle"} & _imported(file), file
        assert not re.search(r"(?<!safetensors\.)torch\.load\(", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("module", ["atomiclm.train", "atomiclm.compare", "atomiclm.sync", "atomiclm.tokenizer"])
def test_what_must_be_quick_imports_neither_torch_nor_wandb(module):
    code = f"import sys, {module}; assert not {{'torch', 'wandb'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_package_itself_imports_at_once():
    heavy = "{'torch', 'wandb', 'hydra', 'omegaconf', 'numpy', 'altair', 'pandas', 'rich', 'yaml'}"
    subprocess.run([sys.executable, "-c", f"import sys, atomiclm; assert not {heavy} & set(sys.modules)"], check=True)


def test_the_map_names_every_file_and_no_other():
    page = (ROOT / "docs/code.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[a-z_0-9]+\.py\b", page.split("## A map of the files")[1].split("```")[1]))
    assert named == {file.name for file in FILES} - {"__init__.py"}


def test_constants_that_two_packages_keep_agree():
    from atomiclm.data import END_OF_TEXT as SEPARATOR
    from atomiclm.tokenizer import END_OF_TEXT

    assert SEPARATOR == END_OF_TEXT
