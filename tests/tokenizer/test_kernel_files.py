"""Machine code on disk: made once, loaded without the compiler, and never trusted when it could be another's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite.binding import FeatureMap

from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tokenizer.compiled import load
from atomiclm.tokenizer.constants import COMPILED_FROM_BYTES, COMPILING_FROM_BYTES
from atomiclm.tokenizer.encoders import ENCODING_KERNELS, TRAINING_KERNELS

KERNEL = "count.refill"  # a small one, which compiles in a second
CODE = (
    "import sys; from atomiclm.tokenizer.compiled import load_kernel\n"
    f"load_kernel({KERNEL!r}); print('numba' in sys.modules)"
)

ANY_SIZE = (
    "from atomiclm.tokenizer import BasicTokenizer, encoders, tokenizer; "
    "tokenizer.COMPILED_FROM_BYTES = encoders.COMPILED_FROM_BYTES = encoders.COMPILING_FROM_BYTES = 0"
)
"""Has kernels compiled for any text."""

TRAIN_AND_ENCODE = """
import sys
t = BasicTokenizer(300)
t.train_from_iterator(["ab cd " * 25_000] * 8)  # 1.2 MB
ids = t.encode_array("ab cd " * 100_000)
print("numba" in sys.modules, t._encoders._first is not None, len(t.merges), len(ids))
"""


def run(cache: Path, code: str = CODE, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env=os.environ | {"ATOMICLM_CACHE": str(cache)} | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with one kernel in it."""
    cache = tmp_path_factory.mktemp("cache")
    result = run(cache)
    assert result.stdout.strip() == "True", result.stderr
    assert f"compiling the tokenizer's kernel {KERNEL}, which is done once" in result.stderr
    return cache


def kernel_file(cache: Path) -> Path:
    [path] = (cache / "kernels").iterdir()
    return path


def test_the_second_process_needs_no_compiler_and_says_nothing(made: Path) -> None:
    result = run(made)
    assert (result.stdout.strip(), result.stderr) == ("False", "")


@pytest.mark.parametrize(
    "harm",
    [
        "truncated",
        "flipped",
        "empty",
        "no header",
        "another format",
        "another name",
        "other arguments",
        "others may write",
        "a group may write",
    ],
)
def test_a_file_that_is_not_whole_or_not_ours_is_as_good_as_none(made: Path, tmp_path: Path, harm: str) -> None:
    data = kernel_file(made).read_bytes()
    header, code = data.split(b"\n", 1)
    path = tmp_path / "a.kernel"
    path.write_bytes(data)
    assert load._read(path) is not None
    path.write_bytes(
        {
            "truncated": data[:-1],
            "flipped": header + b"\n" + code[:100] + bytes([code[100] ^ 1]) + code[101:],
            "empty": b"",
            "no header": code,
            "another format": json.dumps({"sha256": json.loads(header)["sha256"]}).encode() + b"\n" + code,
            "another name": data.replace(b"atomiclm_kernel", b"atomiclm_kernfl", 1),
            "other arguments": data.replace(b'"num_arguments": 4', b'"num_arguments": 3', 1),
            "others may write": data,
            "a group may write": data,
        }[harm]
    )
    if harm.endswith("may write"):
        path.chmod(0o646 if harm == "others may write" else 0o664)
    assert load._read(path) is None


def test_a_text_that_plain_code_is_soon_done_with_compiles_nothing(tmp_path: Path) -> None:
    """The first command spent 32 seconds on kernels for a corpus that plain code does in ten."""
    result = run(tmp_path, f"from atomiclm.tokenizer import BasicTokenizer{TRAIN_AND_ENCODE}")
    assert result.stdout.split() == ["False", "False", "4", "200001"], result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_was_compiled_for_any_text_serves_every_other_at_once(tmp_path: Path) -> None:
    """So the kernels that are asked for are those that are always loaded, no more and no less."""
    assert run(tmp_path, f"{ANY_SIZE}{TRAIN_AND_ENCODE}").stdout.split()[:2] == ["True", "True"]
    result = run(tmp_path, f"from atomiclm.tokenizer import BasicTokenizer{TRAIN_AND_ENCODE}")
    assert result.stdout.split()[:2] == ["False", "True"], result.stderr
    assert result.stderr == ""


@pytest.mark.parametrize(("compiled", "num_bytes"), [(True, COMPILED_FROM_BYTES), (False, COMPILING_FROM_BYTES)])
def test_compiled_kernels_are_used_at_once_and_others_from_tens_of_megabytes_on(
    compiled: bool, num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atomiclm.tokenizer.encoders.are_compiled", lambda kernels: compiled)
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer.kernels_at_hand", lambda: True)
    for kernels in (TRAINING_KERNELS, ENCODING_KERNELS):
        tokenizer = BasicTokenizer(260)
        assert not tokenizer._compiles(num_bytes - 1, kernels)
        assert tokenizer._compiles(1, kernels)


@pytest.mark.skipif(os.name != "posix", reason="there are no owners")
def test_a_file_of_another_user_is_as_good_as_none(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = kernel_file(made).stat().st_uid
    about = os.stat_result((0o100644, 0, 0, 1, owner + 12345, 0, 0, 0, 0, 0))
    monkeypatch.setattr(load.os, "fstat", lambda _: about)
    assert load._read(kernel_file(made)) is None


def test_nothing_is_left_behind_where_writing_fails(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = load._read(kernel_file(made))
    assert code is not None
    (tmp_path / "taken").mkdir()
    load._write(tmp_path / "taken", code)  # a folder cannot be replaced by a file
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
    assert "could not be kept" in caplog.text


@pytest.mark.slow
def test_what_is_as_good_as_none_is_made_again(made: Path, tmp_path: Path) -> None:
    original = kernel_file(made)
    path = tmp_path / "kernels" / original.name
    path.parent.mkdir()
    path.write_bytes(original.read_bytes()[:-1])
    path.chmod(0o666)
    result = run(tmp_path)
    assert result.stdout.strip() == "True", result.stderr
    assert path.read_bytes() == original.read_bytes()
    assert not path.stat().st_mode & 0o022
    assert [each.name for each in path.parent.iterdir()] == [original.name]


@pytest.mark.slow
def test_where_nothing_can_be_written_it_still_works_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    result = run(tmp_path / "cache")
    assert result.stdout.strip() == "True", result.stderr
    assert "set ATOMICLM_CACHE to a folder you may write to" in result.stderr


def test_a_change_in_a_module_that_a_kernel_imports_makes_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = load._sources("encode")
    assert {"encode", "merging", "encoder_fields", "language", "build"} <= sources.keys()
    assert "merge_loop" not in sources
    before = load._fingerprint.__wrapped__("encode")
    assert load._fingerprint.__wrapped__("encode") == before
    for changed in ("merging", "build"):
        monkeypatch.setattr(load, "_sources", lambda module, changed=changed: sources | {changed: b"another"})
        assert load._fingerprint.__wrapped__("encode") != before


def test_another_compiler_or_processor_makes_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint() -> str:
        return load._fingerprint.__wrapped__("count")

    known = {fingerprint()}
    with monkeypatch.context() as patch:
        patch.setattr("llvmlite.__version__", "0.0")
        known.add(fingerprint())
    with monkeypatch.context() as patch:
        patch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "abacus")
        known.add(fingerprint())
    with monkeypatch.context() as patch:
        patch.setattr("llvmlite.binding.get_host_cpu_features", lambda: FeatureMap({"beads": True}))
        known.add(fingerprint())
    assert len(known) == 4


@pytest.mark.parametrize("missing", ["numba", "llvmlite"])
def test_why_there_are_no_kernels(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = load.importlib.util.find_spec
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "")
    assert load.why_unavailable.__wrapped__() is None
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    assert load.why_unavailable.__wrapped__() == "numba is not installed"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert load.why_unavailable.__wrapped__() == "NUMBA_DISABLE_JIT is set"


@pytest.mark.slow
def test_a_kernel_that_needs_another_function_is_not_made(tmp_path: Path) -> None:
    code = """
import sys, types
from atomiclm.tokenizer.compiled import build, language
import math
def outside(number):
    return int(math.lgamma(float(number)))
outside.__annotations__ = {"number": language.int64, "return": language.int64}
sys.modules[f"{build.__package__}.here"] = types.SimpleNamespace(outside=language.kernel(outside))
build.build("here", "outside")
"""
    result = run(tmp_path, code)
    assert "AssertionError: a kernel may need nothing from outside, needs" in result.stderr


def test_a_kernel_that_raises_ends_the_process_instead_of_returning_anything(tmp_path: Path) -> None:
    code = """
import sys, types
from atomiclm.tokenizer.compiled import build, language, load
def raising(number):
    if number > 3:
        raise ValueError("more than three")
    return 2 * number
raising.__annotations__ = {"number": language.int64, "return": language.int64}
sys.modules[f"{build.__package__}.here"] = types.SimpleNamespace(raising=language.kernel(raising))
kernel = load._link(build.build("here", "raising"))
print(kernel(3), flush=True)
print(kernel(4), flush=True)
"""
    result = run(tmp_path, code)
    assert result.stdout.split() == ["6"]
    assert result.returncode < 0


def test_a_compiler_that_cannot_be_imported_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('numba needs another numpy')")
    code = f"{ANY_SIZE}; t = BasicTokenizer(300); t.train('ab ' * 90_000); print(t.merges)"
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    result = run(tmp_path / "cache", code, PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[(97, 98), (32, 256)]"
    assert "numba cannot be imported (numba needs another numpy), so tokenizing runs in plain Python" in result.stderr


def test_without_the_compiler_the_message_names_the_way_out(tmp_path: Path) -> None:
    result = run(tmp_path, NUMBA_DISABLE_JIT="1")
    assert result.returncode == 1
    assert "RuntimeError: compiled kernels: NUMBA_DISABLE_JIT is set; use algorithm='heap'" in result.stderr
