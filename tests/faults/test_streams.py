"""What a command prints may go nowhere: it is closed, full, gone, or cannot say a letter. The work goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli import TINY, command, corpus, environment, only_run

from atomiclm.cli import Lasting, format_error

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


def python(code, tmp_path, redirected="", **variables):
    """Run code in a shell, with what it prints led elsewhere."""
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    return subprocess.run(
        ["bash", "-c", f"'{sys.executable}' '{script}' {redirected}"],
        env={**environment(tmp_path), **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_reader_that_goes_away_is_noticed_once(capfd):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        stream = Lasting(pipe)
        assert stream.write("heard\n") == 6
        stream.flush()
        os.close(reading)
        for _ in range(3):
            stream.write("lost\n")
            stream.flush()
        assert stream.encoding == pipe.encoding
    assert capfd.readouterr().err == "nothing more is printed (Broken pipe); the command goes on\n"


MENDED = """
import os, sys
from atomiclm.cli import mend_streams
mend_streams()
with open("record", "w") as record:
    os.write(1, b"of a library\\n")
    print("printed \\ufffd")
    print("told", file=sys.stderr)
    record.write(f"{record.fileno()}")
"""


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_no_place_for_a_file_of_ours(tmp_path, redirected):
    done = python("import os; os.chdir(os.environ['HOME'])\n" + MENDED, tmp_path, redirected)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "record").read_text() in "3456789"


def test_a_letter_that_the_encoding_lacks_is_escaped(tmp_path):
    done = python("import os; os.chdir(os.environ['HOME'])\n" + MENDED, tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "of a library\nprinted \\ufffd\n")


ENDING = """
import sys
from atomiclm.cli import command
@command("example")
def main(argv):
    print("x" * {size})
    {end}
    return 7
sys.exit(main())
"""


@pytest.mark.parametrize(("end", "status", "words"), [
    ("pass", 7, ""),
    ("raise KeyboardInterrupt", 130, "atomiclm example: interrupted\n"),
    ("open('/nowhere/at/all')", 1, "atomiclm example: /nowhere/at/all: No such file or directory\n"),
    ("from atomiclm.cli import UserError; raise UserError('give 2')", 2, "atomiclm example: give 2\n"),
])  # fmt: skip
def test_a_command_ends_in_one_line(tmp_path, end, status, words):
    done = python(ENDING.format(size=3, end=end), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "xxx\n", words)


@needs_full
@pytest.mark.parametrize("size", [3, 100_000])
def test_output_that_cannot_be_written_is_told(tmp_path, size):
    done = python(ENDING.format(size=size, end="pass"), tmp_path, f"> {FULL}")
    assert (done.returncode, done.stderr) == (1, "atomiclm example: No space left on device\n")


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path):
    code = ENDING.format(size=1_000_000, end="pass")
    done = python(code, tmp_path, "| head -c 1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")


def unread(tmp_path, *arguments):
    """The command as it ends when nobody reads what it prints."""
    words = command("train", *arguments)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(tmp_path), stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    return done


@pytest.mark.parametrize("asked", ["--help", "--cfg=job"])
def test_an_answer_that_nobody_reads_ends_in_silence(tmp_path, asked):
    done = unread(tmp_path, asked)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_training_goes_on_when_nobody_listens(tmp_path):
    done = unread(tmp_path, *TINY, "data=text", f"data.path={corpus(tmp_path)}", "trainer.max_steps=2")
    assert (done.returncode, done.stderr) == (0, "nothing more is printed (Broken pipe); the command goes on\n")
    assert (only_run(tmp_path) / "checkpoints" / "step_00000002").is_dir()


@pytest.mark.parametrize(("error", "words"), [
    (OSError(28, "No space left on device", "/a/b"), "/a/b: No space left on device"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (OSError("odd"), "odd"),
    (OSError(), "OSError"),
    (ValueError("the rule"), "the rule"),
])  # fmt: skip
def test_an_error_is_told_with_its_file(error, words):
    assert format_error(error) == words
