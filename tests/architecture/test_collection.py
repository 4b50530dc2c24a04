"""Collecting the tests is cheap, and gives the same tests in the same order in every process and at any time."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECT = """
import json, pathlib, sys
import pytest

class Seen:
    def pytest_collection_finish(self, session):
        self.ids = [item.nodeid for item in session.items]

seen = Seen()
status = pytest.main(["--collect-only", "-q", "-n", "0", "-m", "", "-p", "no:cacheprovider"], plugins=[seen])
assert status == 0, status
pathlib.Path(sys.argv[1]).write_text(json.dumps({"ids": seen.ids, "modules": [*sys.modules]}))
"""
HEAVY = {"pandas", "scipy.stats", "statsmodels", "torch._dynamo", "torch.distributed.tensor", "transformers", "triton"}
"""Import them inside the tests that use them: at the top of a file, every worker pays for them at every start."""


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """What two processes collect, one after the other, with other hash seeds and temporary folders."""
    found = []
    for seed in ("1", "2"):
        folder = tmp_path_factory.mktemp("collected")
        environment = os.environ | {"PYTHONHASHSEED": seed, "TMPDIR": str(folder)}
        command = [sys.executable, "-c", COLLECT, folder / "seen.json"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(json.loads((folder / "seen.json").read_text()))
    return found


@pytest.mark.slow
def test_it_imports_nothing_heavy(collections):
    assert not HEAVY & set(collections[0]["modules"])


@pytest.mark.slow
def test_no_id_depends_on_the_clock_the_process_a_folder_or_the_hash_seed(collections):
    first, second = (found["ids"] for found in collections)
    assert len(first) > 5000
    assert [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]] == []


def test_warnings_are_errors_where_they_are_ours():
    def warn(category, module):
        with warnings.catch_warnings(record=True) as shown:  # by the filters of pyproject.toml
            warnings.warn_explicit("planted", category, "file.py", 1, module=module)
        return shown

    for category in (DeprecationWarning, FutureWarning, UserWarning):
        with pytest.raises(category, match="planted"):
            warn(category, "atomiclm.model.decoder")
        for module in ("transformers.modeling_utils", "torch.nn", "atomiclmodel", "tests.reference.test_moe"):
            assert len(warn(category, module)) == 1
    for category in (ResourceWarning, pytest.PytestUnraisableExceptionWarning, pytest.PytestUnknownMarkWarning):
        with pytest.raises(category, match="planted"):
            warn(category, "sys")
