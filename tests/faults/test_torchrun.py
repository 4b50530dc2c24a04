"""A run of several processes, by torchrun: it is the run of one, and whatever ends a process ends or mends them all.

TORCHRUN_TRIALS sets how often each fault is tried, at other moments each time.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from cli import TINY, corpus, environment, heed_signals, only_run, run
from faults.disk import CannotMount, fill, small_disk
from safetensors.torch import load_file

from atomiclm.config.load import load_run
from atomiclm.tracking import find_run

pytestmark = pytest.mark.slow

TRIALS = int(os.environ.get("TORCHRUN_TRIALS", "1"))
STEPS = 24
CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "tokens_per_second", "time")
FSDP = "runtime.distributed=fsdp"

PLANTED = """\
import os
from atomiclm.model import NextToken

class Planted(NextToken):
    '''The loss of one process is not a number, once, at a step in the middle.'''
    passes = 0

    def __call__(self, model, *arguments):
        found = super().__call__(model, *arguments)
        if model.training:
            self.passes += 1
            if self.passes == 12 and os.environ["RANK"] == "1":
                found.total.data.fill_(float("nan"))
                found.nats.fill_(float("nan"))
        return found
"""


def _arguments(folder: Path, *more: str) -> list[str]:
    text = f"data.path={corpus(folder).name}"
    steps = (f"trainer.max_steps={STEPS}", "runtime.log_every_steps=1", "runtime.checkpoint_every_seconds=0.2")
    return ["data=text", text, *TINY, *steps, "cache_dir=cache", *more]


def _start(folder: Path, size: int, arguments: list[str], *flags: str, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", *flags]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*command, "-m", "atomiclm.train", *arguments], cwd=folder, env={**environment(folder), **variables},
            stdout=log, stderr=log, start_new_session=True, preexec_fn=heed_signals,
        )  # fmt: skip


def _trained(folder: Path, size: int, arguments: list[str], *flags: str, **variables: str) -> str:
    """What was printed by processes that are to come to their end."""
    before = (folder / "log").stat().st_size if (folder / "log").exists() else 0
    status = _start(folder, size, arguments, *flags, **variables).wait(300)
    printed = (folder / "log").read_text()[before:]
    assert status == 0, printed[-5000:]
    return printed


def _workers(process: subprocess.Popen) -> dict[int, int]:
    """The process of each rank."""
    found = {}
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks = [int(each[5:]) for each in variables if each.startswith(b"RANK=")]
        found |= dict.fromkeys(ranks, int(pid))
    return found


def _wait_for_rows(process: subprocess.Popen, folder: Path, rows: int) -> None:
    files = list(folder.glob("outputs/runs/*/metrics.jsonl"))
    while process.poll() is None and sum(path.read_bytes().count(b"\n") for path in files) < rows:
        time.sleep(0.005)
        files = list(folder.glob("outputs/runs/*/metrics.jsonl"))
    assert process.poll() is None, "\n".join(path.read_text()[-5000:] for path in folder.glob("log*"))


def _rows(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (only_run(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row if key not in CLOCK} for row in rows if row["event"] != "checkpoint"]


def _checkpoint(folder: Path) -> Path:
    return only_run(folder) / "checkpoints" / f"step_{STEPS:08d}"


def _check_equal(folder: Path, undisturbed: Path) -> None:
    assert _rows(folder) == _rows(undisturbed)
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (load_file(_checkpoint(each) / name) for each in (folder, undisturbed))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = run(folder, "train", *_arguments(folder), timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    printed = _trained(folder, 2, _arguments(folder))
    assert "2 processes, each with the whole model (ddp)" in printed
    assert printed.count("checking the configuration") == 1
    return folder


def test_it_is_the_run_of_one_process(alone, together):
    assert len(_rows(together)) == len(_rows(alone))
    for ours, theirs in zip(_rows(together), _rows(alone), strict=True):
        assert ours.keys() == theirs.keys()
        for key, tolerance in {"train/loss": 1e-5, "validation/bits_per_byte": 1e-6}.items():
            assert ours.get(key, 0) == pytest.approx(theirs.get(key, 0), rel=tolerance)
        assert ours.get("samples") == theirs.get("samples")
    assert only_run(together).name == only_run(alone).name


def test_a_checkpoint_is_whole_whoever_goes_on_with_it(tmp_path, alone):
    """Of two processes that share the model, with an optimizer of whole matrices; on one, on four, and elsewhere."""
    from transformers import AutoModelForCausalLM

    arguments = _arguments(tmp_path, "optim=muon", FSDP)
    first = _start(tmp_path, 2, arguments)
    _wait_for_rows(first, tmp_path, STEPS // 2)
    os.kill(_workers(first)[1], signal.SIGTERM)
    assert first.wait(180) == 1
    assert "stopped by SIGTERM; the same command resumes" in (tmp_path / "log").read_text()
    printed = _trained(tmp_path, 4, [*arguments, "runtime.shard=2"])
    assert "inexact: world_size was 2 and is 4" in printed
    assert "2 copies of the model, each sharded over 2 of them (fsdp)" in printed
    trunk = only_run(tmp_path)
    branch = ["name=branch", f"trainer.max_steps={STEPS + 4}", f"trainer.branch_from={trunk}"]
    done = run(tmp_path, "train", *arguments, *branch)
    assert done.returncode == 0, done.stderr
    reference = run(tmp_path, "train", *arguments, "name=alone")
    assert reference.returncode == 0, reference.stderr
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (trunk, only_run(tmp_path, "alone")))
    # Where bfloat16 is native Muon's iteration rounds to it, which carries a last bit further.
    assert ours["validation/loss"] == pytest.approx(theirs["validation/loss"], rel=1e-3)
    exported = run(tmp_path, "export", str(trunk), "exported", "--format", "huggingface")
    assert exported.returncode == 0, exported.stderr
    model, tokens = load_run(*find_run(str(trunk))).model, torch.arange(32)[None]
    elsewhere = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), elsewhere(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_process_is_started_again_and_the_run_is_the_same(strategy, together, tmp_path_factory):
    chance = random.Random(strategy)
    for _ in range(TRIALS):
        folder = tmp_path_factory.mktemp("killed")
        process = _start(folder, 2, _arguments(folder, f"runtime.distributed={strategy}"), "--max-restarts=3")
        _wait_for_rows(process, folder, chance.randrange(1, STEPS - 5))
        os.kill(_workers(process)[chance.randrange(2)], signal.SIGKILL)
        assert process.wait(180) == 0, (folder / "log").read_text()[-5000:]
        if strategy == "ddp":
            _check_equal(folder, together)
        else:
            assert _rows(folder)[-1]["step"] == STEPS


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_signal_to_one_process_stops_all_at_a_saved_state(strategy, together, tmp_path_factory):
    chance = random.Random(strategy)
    for _ in range(TRIALS):
        folder = tmp_path_factory.mktemp("stopped")
        arguments = _arguments(folder, f"runtime.distributed={strategy}")
        process = _start(folder, 2, arguments)
        _wait_for_rows(process, folder, chance.randrange(1, STEPS - 5))
        os.kill(_workers(process)[chance.randrange(2)], signal.SIGTERM)
        assert process.wait(180) == 1  # torchrun's, of processes that ended with 75
        assert "exitcode  : 75" in (folder / "log").read_text()
        assert json.loads((only_run(folder) / "summary.json").read_text())["state"] == "interrupted"
        assert "exact" in _trained(folder, 2, arguments)
        if strategy == "ddp":
            _check_equal(folder, together)


def test_a_full_disk_ends_no_run_that_can_go_on(together, tmp_path_factory):
    for trial in range(TRIALS):
        folder = tmp_path_factory.mktemp("full")
        try:
            with small_disk(folder / "outputs", 20) as disk:
                arguments = _arguments(folder)
                process = _start(folder, 2, arguments)
                _wait_for_rows(process, folder, 3 + trial % 10)  # early: a disk takes a moment to be filled
                filler = fill(disk, 1000)
                assert process.wait(180) == 1
                assert "No space left on device" in (folder / "log").read_text()
                filler.unlink()
                _trained(folder, 2, arguments)
                _check_equal(folder, together)
        except CannotMount as error:
            pytest.skip(f"no small disk here: {error}")


@pytest.mark.parametrize(("policy", "strategy"), [("stop", "ddp"), ("skip", "fsdp")])
def test_a_loss_that_is_no_number_in_one_process_is_a_bad_step_of_all(policy, strategy, tmp_path_factory):
    for _ in range(TRIALS):
        folder = tmp_path_factory.mktemp("bad")
        (folder / "planted.py").write_text(PLANTED)
        arguments = _arguments(
            folder, f"trainer/bad_steps={policy}", "trainer/objective=next_token",
            "++trainer.objective._target_=planted.Planted", f"runtime.distributed={strategy}",
        )  # fmt: skip
        trusted = {"ATOMICLM_TRUST": "planted", "PYTHONPATH": f"{folder}:{environment(folder)['PYTHONPATH']}"}
        status = _start(folder, 2, arguments, **trusted).wait(180)
        printed = (folder / "log").read_text()
        bad = [row for row in _rows(folder) if row["event"] == "bad_step"]
        assert [row["reason"] for row in bad] == ["the loss is not finite"], printed[-3000:]
        state = json.loads((only_run(folder) / "summary.json").read_text())["state"]
        assert (status, state) == {"stop": (1, "diverged"), "skip": (0, "done")}[policy]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["trainer.batch_size=5"], "trainer.batch_size=5 must be a multiple of the 2 processes"),
        (["runtime.shard=2"], "runtime.shard: nothing is sharded by ddp; add runtime.distributed=fsdp"),
        (["runtime.shard=3", FSDP], "runtime.shard: 3 does not divide the 2 processes"),
    ],
)
def test_what_cannot_be_is_said_once(arguments, rule, tmp_path):
    assert _start(tmp_path, 2, _arguments(tmp_path, *arguments)).wait(180) == 1
    log = (tmp_path / "log").read_text()
    assert log.count(rule) == 1
    assert log.count("exitcode  : 2") == 2
    assert not (tmp_path / "outputs").exists()


@contextmanager
def _two_hosts() -> Iterator[list[str]]:
    """Two network namespaces joined by a cable, named; skips where this user may make none."""
    names = [f"host{os.getpid()}{letter}" for letter in "ab"]
    cable = [f"c{os.getpid()}{letter}" for letter in "ab"]

    def ip(*arguments: str) -> None:
        try:
            subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', '') or error}")

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
        for number, (name, end) in enumerate(zip(names, cable, strict=True), start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end)
            ip("-n", name, "link", "set", end, "name", "wire")
            ip("-n", name, "link", "set", "wire", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_two_hosts_train_one_model_and_survive_a_cut(together, tmp_path):
    arguments = _arguments(tmp_path, "runtime.peer_timeout_seconds=20")

    def start(hosts: list[str]) -> list[subprocess.Popen]:
        started = []
        for number, host in enumerate(hosts):
            # Its own address says nothing to a host without a name.
            meet = f"--rdzv-conf=is_host={1 - number},read_timeout=20,close_timeout=5"
            command = [
                "ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes=2",
                "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-endpoint=10.77.0.1:29400", meet,
                f"--local-addr=10.77.0.{number + 1}", "-m", "atomiclm.train", *arguments,
            ]  # fmt: skip
            variables = {**environment(tmp_path), "GLOO_SOCKET_IFNAME": "wire", "ATOMICLM_CACHE": str(tmp_path / host)}
            with (tmp_path / f"log of {host[-1]}").open("a") as log:
                started.append(
                    subprocess.Popen(
                        command, cwd=tmp_path, env=variables, stdout=log, stderr=log, preexec_fn=heed_signals
                    )
                )
        return started

    def logs() -> str:
        return "\n".join(path.read_text() for path in tmp_path.glob("log of *"))

    with _two_hosts() as hosts:
        first, second = start(hosts)
        _wait_for_rows(first, tmp_path, STEPS // 2)
        subprocess.run(["ip", "-n", hosts[1], "link", "set", "wire", "down"], check=True)
        assert first.wait(180) != 0
        deadline = time.monotonic() + 60
        while (said := logs().count("another process of the run has ended or is not heard of")) < 2:
            assert time.monotonic() < deadline, logs()[-5000:]
            time.sleep(0.1)
        assert said == 2
        second.kill()  # torchrun itself asks the first host what to do, for as long as its own timeout
        second.wait()
        subprocess.run(["ip", "-n", hosts[1], "link", "set", "wire", "up"], check=True)
        ended = [process.wait(300) for process in start(hosts)]
        assert ended == [0, 0], logs()[-5000:]
    assert "exact" in logs()
    _check_equal(tmp_path, together)
