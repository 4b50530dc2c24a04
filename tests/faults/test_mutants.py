"""The suite has teeth: with any of these faults in the program, the test named for it fails."""

import re
import shutil
from pathlib import Path

import pytest
from cli import environment
from faults.mutants import MUTANTS
from warm import WarmParent

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300


@pytest.fixture(scope="module")
def parent(workshop):
    # Not atomiclm: that is imported from the copy.
    with WarmParent(workshop.environment, ("torch._inductor.config", "safetensors.torch")) as parent:
        yield parent


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_test_fails(workshop, parent, tmp_path, mutant):
    copy = tmp_path / "copy"
    for name in ("atomiclm", "tests/faults", "tests/training"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/cli.py", "tests/warm.py"):
        shutil.copy(ROOT / name, copy / name)
    mutant.apply(copy / "atomiclm")
    variables = {**environment(tmp_path), "PYTHONPATH": str(copy)}
    arguments = ["-n", "0", "-m", "", "-x", "-p", "no:cacheprovider", "--tb=short", mutant.test]
    status = parent.start("pytest", arguments, copy, variables, tmp_path / "log").wait(LIMIT_SECONDS)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert status == 1, f"{mutant.test} ends with {status} in spite of the fault:\n{log[-2000:]}"
    assert re.search(r"^E +(AssertionError|assert|.*DamagedCheckpoint)", log, re.MULTILINE), log[-2000:]
    assert "1 failed" in log
    assert " error" not in log.splitlines()[-1]
