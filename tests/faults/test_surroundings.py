"""Bad surroundings, through the real command: memory runs out, folders may not be written to, vanish or change."""

import contextlib
import errno
import json
import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from cli import TINY, command, corpus, environment, only_run

from atomiclm.cli import UserError
from atomiclm.machine import default_cache_dir
from atomiclm.tracking import RunFolder, write_summary
from atomiclm.tracking.wandb_mirror import choose_mode
from atomiclm.train import lock_run
from atomiclm.training.memory import memory_advice

LIMIT_SECONDS = 300

SCARCE = """
import resource, sys

def leave_little(event, arguments):
    if event == "open" and str(arguments[0]).endswith("metrics.jsonl") and not done:
        done.append(True)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (32 << 20), resource.RLIM_INFINITY))

done = []
sys.addaudithook(leave_little)
"""
"""A sitecustomize.py: when all parts are made and training is about to begin, little more memory is to be had."""

BACKWARDS = """
import itertools, time

times = itertools.count(time.time(), -3600)
time.time = lambda: next(times)
"""
"""A sitecustomize.py: whenever somebody asks for the time of day, it is an hour earlier."""


def with_site(folder, code):
    """Variables that have Python run `code` before anything else."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{folder / 'site'}{os.pathsep}{environment(folder)['PYTHONPATH']}"}


def started(folder, *overrides, **variables):
    arguments = command("train", "data=text", "data.path=corpus.txt", *TINY, *overrides)
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            arguments, cwd=folder, env={**environment(folder), **variables}, stdout=log, stderr=subprocess.STDOUT
        )


def ended(folder, *overrides, **variables):
    status = started(folder, *overrides, **variables).wait(LIMIT_SECONDS)
    return status, (folder / "log").read_text()


def state(folder):
    return json.loads((only_run(folder) / "summary.json").read_text())["state"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set by what /proc says")
def test_memory_that_runs_out_is_told_with_what_to_change_and_the_change_helps(tmp_path):
    corpus(tmp_path)
    scarce = with_site(tmp_path, SCARCE)
    overrides = ("trainer.batch_size=512", "trainer.max_steps=1", "evaluation.batch_size=4")
    status, log = ended(tmp_path, *overrides, **scarce)
    assert (status, state(tmp_path)) == (1, "failed"), log
    assert "batches of 512 sequences are computed at once" in log
    assert "runtime.micro_batch_size=256, or 128, 64, 32" in log
    assert "Traceback" not in log
    status, log = ended(tmp_path, *overrides, "runtime.micro_batch_size=16", **scarce)
    assert (status, state(tmp_path)) == (0, "done"), log


def said_of(error, **settings):
    runtime = {"micro_batch_size": None, "checkpoint_activations": False, "device": "cuda:0"} | settings
    return memory_advice(error, {"trainer": {"batch_size": 12}, "runtime": runtime})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("could not create a memory object"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_every_kind_of_running_out_of_memory_is_known(error):
    assert said_of(error).startswith("out of memory on cuda:0, where batches of 12 sequences are computed at once: ")


@pytest.mark.parametrize(
    "error", [RuntimeError("unexpected pos 704 vs 598"), OSError(errno.ENOSPC, "No space left"), ValueError("memory")]
)
def test_what_is_not_about_memory_gets_no_advice(error):
    assert said_of(error) is None


def test_what_is_advised_is_what_is_left_to_change():
    assert "runtime.micro_batch_size=6, or 4, 3, 2:" in said_of(MemoryError())
    pieces = said_of(MemoryError(), micro_batch_size=4, checkpoint_activations=True)
    assert "in pieces of 4" in pieces
    assert "runtime.micro_batch_size=2, or 1:" in pieces
    assert "checkpoint_activations" not in pieces
    assert "micro_batch_size" not in said_of(MemoryError(), micro_batch_size=1)
    assert "another run" in said_of(MemoryError(), micro_batch_size=1)


@pytest.mark.slow
def test_a_run_outlives_its_text_and_its_cache_and_a_clock_that_runs_backwards(tmp_path):
    """Both are open, or mapped, already; times are taken from clocks that only run forwards."""
    corpus(tmp_path)
    endless = ("trainer.max_steps=1000000", "runtime.checkpoint_every_seconds=0.5", "runtime.log_every_steps=1")
    process = started(tmp_path, *endless, **with_site(tmp_path, BACKWARDS))

    def rows_written():
        return sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("outputs/*/*/metrics.jsonl"))

    def wait_for(rows):
        deadline = time.monotonic() + LIMIT_SECONDS
        while rows_written() < rows:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for(3)
    text = (tmp_path / "corpus.txt").read_bytes()
    (tmp_path / "corpus.txt").unlink()
    (tmp_path / "cache").rename(tmp_path / "gone")
    wait_for(rows_written() + 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_SECONDS) == 75, (tmp_path / "log").read_text()
    assert state(tmp_path) == "interrupted"

    status, log = ended(tmp_path, *endless)
    assert (status, "data.path: no file or folder at 'corpus.txt'" in log) == (2, True), log
    (tmp_path / "corpus.txt").write_bytes(text + b"and one more line\n")
    status, log = ended(tmp_path, *endless)
    assert (status, "was trained on another text" in log) == (2, True), log


@pytest.mark.slow
def test_a_folder_for_runs_that_cannot_be_one_is_named(tmp_path):
    corpus(tmp_path)
    (tmp_path / "outputs").write_text("a file")
    status, log = ended(tmp_path, "trainer.max_steps=1")
    assert (status, "output_dir: outputs/runs/" in log, "Traceback" in log) == (2, True, False), log
    assert (tmp_path / "outputs").read_text() == "a file"


@contextlib.contextmanager
def read_only(folder):
    """An empty file system that takes nothing, mounted where it can be: permissions do not bind root."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("nothing can be mounted here, and permissions do not bind this user")
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_cache_that_may_not_be_written_to_is_named(tmp_path):
    corpus(tmp_path)
    with read_only(tmp_path / "locked") as locked:
        status, log = ended(tmp_path, "trainer.max_steps=1", ATOMICLM_CACHE=str(locked / "cache"))
    assert (status, f"cache_dir: may not write to {locked}" in log, "Traceback" in log) == (2, True, False), log


def test_a_folder_for_runs_that_may_not_be_written_to_is_named(tmp_path):
    with (
        read_only(tmp_path / "locked") as locked,
        pytest.raises(UserError, match=r"output_dir: .*locked/outputs/run cannot be made or written to \("),
        lock_run(RunFolder(locked / "outputs" / "run")),
    ):
        pass


def test_a_run_whose_last_process_was_killed_says_so(tmp_path, capsys):
    folder = RunFolder(tmp_path / "run")
    for summary, told in (({"state": "interrupted"}, False), ({"state": "running"}, True)):
        write_summary(folder.summary, summary)
        with lock_run(folder):
            pass
        assert ("stopped without a message" in capsys.readouterr().err) == told


def test_a_user_without_a_home_folder(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "ATOMICLM_CACHE", "NETRC", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ValueError, match=r"HOME is not set.*set ATOMICLM_CACHE"):
        default_cache_dir()
    assert choose_mode("auto") == ("offline", "")
    monkeypatch.setenv("NETRC", "~/keys")
    assert choose_mode("auto") == ("offline", "")
