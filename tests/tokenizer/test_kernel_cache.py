"""Machine code in the cache folder: compiled once, loaded by later processes, and never a reason to fail."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from llvmlite.binding import FeatureMap

from atomiclm.tokenizer import BasicTokenizer, fast
from atomiclm.tokenizer.constants import COMPILED_FROM_BYTES, COMPILING_FROM_BYTES

pytestmark = pytest.mark.skipif(fast.why_unavailable() is not None, reason=str(fast.why_unavailable()))

CODE = """
import numpy as np
from atomiclm.tokenizer.fast.scan import lay_out  # a small one, which compiles in a second
rows = np.empty(12, np.int32)
print(lay_out(b"abcd", np.array([1, 4]), 2, bytes(range(256)), rows), rows[::2].tolist())
"""
RESULT = "7 [-1, 97, -1, 98, 99, 100]\n"  # of seven positions six are printed
CODE = CODE.replace("np.empty(12", "np.empty(14").replace("rows[::2]", "rows[:12:2]")

TRAIN_AND_ENCODE = """
import sys
from atomiclm.tokenizer import BasicTokenizer
t = BasicTokenizer(300)
t.train_from_iterator(["ab cd " * 25_000] * 8)  # 1.2 MB
ids = t.encode_array("ab cd " * 200_000)
print(t._encoders is not None, len(t.merges), len(ids))
"""
ANY_SIZE = "from atomiclm.tokenizer import fast, tokenizer; fast.COMPILING_FROM_BYTES = 0"


def start(cache: Path, code: str = CODE, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"ATOMICLM_CACHE": str(cache)} | environment,
    )  # fmt: skip


def run(cache: Path, code: str = CODE, **environment: str) -> tuple[str, str]:
    return start(cache, code, **environment).communicate()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with one kernel in it."""
    cache = tmp_path_factory.mktemp("cache")
    result, said = run(cache)
    assert result == RESULT, said
    assert "compiling the tokenizer's kernel scan.lay_out, which is done once" in said
    return cache


def copied(made: Path, cache: Path) -> list[Path]:
    """The files of a copy of a cache folder: the index, and the machine code."""
    for file in made.rglob("*.nb?"):
        path = cache / file.relative_to(made)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(file.read_bytes())
    return sorted(cache.rglob("*.nb?"))


def test_the_second_process_compiles_nothing_and_says_nothing(made: Path) -> None:
    assert run(made) == (RESULT, "")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("harm", ["truncated", "empty", "zeros", "removed", "a folder"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_cache_is_made_again(made: Path, tmp_path: Path, which: int, harm: str) -> None:
    path = copied(made, tmp_path)[which]
    data = path.read_bytes()
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "removed":
        path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "zeros": bytes(len(data))}[harm])
    result, said = run(tmp_path)
    assert result == RESULT, said
    assert "compil" in said
    if harm != "a folder":
        run(tmp_path)  # saves what the first has removed
        assert run(tmp_path) == (RESULT, "")


def test_where_nothing_can_be_written_it_still_works_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    result, said = run(tmp_path / "cache")
    assert result == RESULT, said
    assert said.count("set ATOMICLM_CACHE to a folder you may write to") == 1
    assert not list(Path(fast.__file__).parent.rglob("*.nb?")), "nor is it written elsewhere"


@pytest.mark.skipif(os.name != "posix", reason="there are no owners")
def test_a_folder_that_others_may_write_to_is_not_trusted(made: Path, tmp_path: Path) -> None:
    path = copied(made, tmp_path)[0]
    path.parent.parent.chmod(0o777)
    result, said = run(tmp_path)
    assert result == RESULT
    assert "others may write to it" in said


def test_processes_that_compile_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == [RESULT] * 3
    assert run(tmp_path) == (RESULT, "")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_a_process_that_is_killed_while_it_compiles_leaves_a_cache_that_works(tmp_path: Path) -> None:
    for tenths in range(4, 24, 2):
        process = start(tmp_path)
        time.sleep(tenths / 10)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert run(tmp_path)[0] == RESULT
    assert run(tmp_path) == (RESULT, "")


def test_a_change_of_anything_that_decides_machine_code_makes_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from atomiclm.tokenizer.fast import kernel

    monkeypatch.setenv("ATOMICLM_CACHE", str(tmp_path))

    def folder() -> Path | None:
        return kernel.cache_folder.__wrapped__()

    assert folder() == folder()
    known = {folder()}
    for name, value in (
        ("llvmlite.__version__", "0.0"),
        ("numba.__version__", "0.0"),
        ("llvmlite.binding.get_host_cpu_name", lambda: "abacus"),
        ("llvmlite.binding.get_host_cpu_features", lambda: FeatureMap({"beads": True})),
        ("atomiclm.tokenizer.fast.kernel.Path.read_bytes", lambda path: path.name.encode()),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            known.add(folder())
    assert len(known) == 6


def test_a_kernel_is_asked_for_only_when_text_is_worth_it(tmp_path: Path) -> None:
    """The first command spent 32 seconds on kernels for a corpus that plain code does in ten."""
    result, said = run(tmp_path, TRAIN_AND_ENCODE)
    assert result.split() == ["False", "4", "400001"], said
    assert not list(tmp_path.rglob("*.nb?"))


@pytest.mark.slow
def test_what_was_compiled_for_any_text_serves_every_other_at_once(tmp_path: Path) -> None:
    """So the kernels that are asked for are those that are always loaded, no more and no less."""
    assert run(tmp_path, f"{ANY_SIZE}\n{TRAIN_AND_ENCODE}")[0].split()[0] == "True"
    result, said = run(tmp_path, TRAIN_AND_ENCODE)
    assert (result.split()[0], said) == ("True", "")


@pytest.mark.parametrize(("cached", "num_bytes"), [(True, COMPILED_FROM_BYTES), (False, COMPILING_FROM_BYTES)])
def test_compiled_kernels_are_used_at_once_and_others_from_tens_of_megabytes_on(
    cached: bool, num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atomiclm.tokenizer.fast.kernel.Kernel.is_cached", lambda kernel: cached)
    for task in ("train", "encode"):
        tokenizer = BasicTokenizer(260)
        assert not tokenizer._compiles(num_bytes - 1, task)
        assert tokenizer._compiles(1, task)


def test_why_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    find = fast.importlib.util.find_spec
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "")
    assert fast.why_unavailable.__wrapped__() is None
    monkeypatch.setattr(fast.importlib.util, "find_spec", lambda name: None if name == "numba" else find(name))
    assert fast.why_unavailable.__wrapped__() == "numba is not installed"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert fast.why_unavailable.__wrapped__() == "NUMBA_DISABLE_JIT is set"


def test_a_compiler_that_cannot_be_imported_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('numba needs another numpy')")
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    result, said = run(tmp_path / "cache", TRAIN_AND_ENCODE, PYTHONPATH=path)
    assert result.split() == ["False", "4", "400001"], said
    assert said.count("numba cannot be imported (numba needs another numpy), so tokenizing runs in plain Python") == 1
