"""Each notebook runs from its first cell to its last, and is stored with pictures and without a path of a machine."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ABSOLUTE_PATH = re.compile(r"(?<![\w.<:/])(?:/\w[\w.-]*){2,}")
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def _outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", ())]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_runs(name, tmp_path):
    specification = importlib.util.spec_from_file_location("execute", NOTEBOOKS / "execute.py")
    execute = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(execute)
    notebook = execute.execute(NOTEBOOKS / name, tmp_path)
    assert len(_outputs(notebook)) == len(_outputs(json.loads((NOTEBOOKS / name).read_text())))


@pytest.mark.parametrize("name", NAMES)
def test_is_stored_with_its_outputs(name):
    text = (NOTEBOOKS / name).read_text()
    notebook = json.loads(text)
    assert len(text) < 400_000
    assert 15 <= len(notebook["cells"]) <= 27
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = _outputs(notebook)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not any(output.get("name") == "stderr" for output in outputs)
    for output in outputs:
        printed = "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))
        assert not ABSOLUTE_PATH.search(printed)
