"""What this machine was seen to do, as one process leaves it for another."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from atomiclm.machine import processor_name
from atomiclm.training import Runtime
from atomiclm.training.runtime import (
    Machine,
    MatmulRate,
    Peak,
    Reached,
    read_machine,
    save_seen,
)

RATE = MatmulRate("cpu", processor_name(), "float32", 2, 1.5e11)
RUN = Reached("cpu", processor_name(), "float32", 2, 5e10, 8e6)


def test_the_best_rate_of_each_kind_is_kept_and_told(tmp_path):
    cache = tmp_path / "not" / "there"
    assert read_machine(cache) == Machine()
    others = [replace(RATE, dtype="bfloat16"), replace(RATE, threads=1), replace(RATE, kind="cuda", device="A GPU")]
    for rate in [RATE, *others]:
        assert save_seen(cache, rate) == rate
    better = replace(RATE, flops_per_second=2e11)
    assert save_seen(cache, better) == better
    assert save_seen(cache, replace(RATE, flops_per_second=0.6e11)) == better, "measured while others had the cores"
    assert read_machine(cache).rates == (*others, better)


def test_the_rate_last_used_that_fits_is_found(tmp_path):
    elsewhere = replace(RATE, device="Another processor", threads=4)
    rates = [RATE, replace(RATE, threads=1), replace(RATE, kind="cuda", dtype="bfloat16", threads=0), elsewhere]
    for rate in rates:
        save_seen(tmp_path, rate)
    found = read_machine(tmp_path)
    assert found.rate() == rates[2]
    assert found.rate(kind="cpu") == rates[1], "a cache in a shared home holds those of other machines"
    assert found.rate(kind="cpu", dtype="float32", threads=2) == rates[0]
    assert found.rate(kind="mps") is None
    save_seen(tmp_path, replace(RATE, flops_per_second=1.0))
    assert read_machine(tmp_path).rate(kind="cpu") == rates[0]


def test_what_like_runs_reached_is_that_of_the_slowest(tmp_path):
    for speed, size in ((5e10, 8e6), (4e10, 15e6), (1e10, 40e6), (6e10, 8e6)):
        save_seen(tmp_path, replace(RUN, flops_per_second=speed, flops_per_token=size))
    save_seen(tmp_path, replace(RUN, flops_per_second=1e9, dtype="bfloat16"))
    found = read_machine(tmp_path)
    assert found.reached(RATE, 8e6) == 4e10
    assert found.reached(RATE, 20e6) == 1e10
    assert found.reached(RATE, 1e6) is None
    assert found.reached(replace(RATE, threads=1), 8e6) is None


def test_of_many_runs_the_newest_are_kept(tmp_path):
    for number in range(1, 100):
        save_seen(tmp_path, replace(RUN, flops_per_second=float(number)))
    assert [run.flops_per_second for run in read_machine(tmp_path).runs] == list(map(float, range(36, 100)))


def test_no_run_is_above_the_peak(tmp_path):
    """The rate was measured on a busy machine, and runs then showed 201 and 252 % of it."""
    peak = Peak(tmp_path, RATE, pytest.fail)
    assert peak.utilization(0.3e11) == pytest.approx(0.2)
    assert read_machine(tmp_path).rates == (RATE,)
    assert peak.utilization(2.01 * 1.5e11) == 1.0
    assert [rate.flops_per_second for rate in read_machine(tmp_path).rates] == [2.01 * 1.5e11]
    assert peak.utilization(1.5e11) == pytest.approx(1 / 2.01)


def test_a_run_is_saved_where_it_had_time_and_what_cannot_be_saved_is_said(tmp_path):
    said: list[str] = []
    save_seen(tmp_path, replace(RATE, flops_per_second=3e11))
    peak = Peak(tmp_path, RATE, said.append)
    assert peak.rate.flops_per_second == 3e11, "the best that was ever seen"
    peak.save_run(flops_per_token=8e6, tokens=1000, seconds=9.9)
    assert not read_machine(tmp_path).runs
    peak.save_run(flops_per_token=8e6, tokens=1000, seconds=16.0)
    assert read_machine(tmp_path).runs == (replace(RUN, flops_per_second=5e8),)
    assert not said
    (tmp_path / "file").touch()
    assert Peak(tmp_path / "file" / "cache", RATE, said.append).utilization(1.5e11) == 1.0
    assert "not saved for plan" in said[0]


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    rates = [replace(RATE, threads=number) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda rate: (save_seen(tmp_path, rate), save_seen(tmp_path, RUN)), rates))
    found = read_machine(tmp_path)
    assert {rate.threads for rate in found.rates} == set(range(1, 9))
    assert len(found.runs) == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        pytest.param("[" * 100_000, id="deep"),
        "[1]",
        '[{"kind": "cpu", "device": "A", "dtype": "float32", "threads": 2, "flops_per_second": 1e9}]',
        '{"rates": []}',
        '{"rates": [{"kind": 1}], "runs": []}',
        '{"rates": [{"kind": "cpu", "device": "A", "dtype": "a", "threads": 2, "flops_per_second": 0}], "runs": []}',
        '{"rates": [{"kind": "cpu", "device": "A", "dtype": "a", "threads": 2, "flops_per_second": "a"}], "runs": []}',
    ],
)
def test_a_damaged_file_is_as_none(tmp_path, text):
    (tmp_path / "machine.json").write_text(text)
    assert read_machine(tmp_path) == Machine()
    save_seen(tmp_path, RATE)
    assert read_machine(tmp_path) == Machine((RATE,))


def test_what_other_processes_do_meanwhile_is_not_measured(monkeypatch):
    """Each product takes a second of the wall clock, and this process has the processor for a hundredth of it."""
    clocks = {"wall": 0.0, "own": 0.0}

    def product(left, right):
        clocks["wall"] += 1.0
        clocks["own"] += 0.01
        return left

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    monkeypatch.setattr(time, "perf_counter", lambda: clocks["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clocks["own"])
    rate = Runtime(device="cpu").matmul_rate(torch.float32)
    assert rate.flops_per_second == pytest.approx(2 * 512**3 / (0.01 / torch.get_num_threads()))


def test_the_runtime_measures_what_it_says():
    rate = Runtime(device="cpu").matmul_rate(torch.float32)
    assert (rate.kind, rate.device, rate.dtype) == ("cpu", processor_name(), "float32")
    assert rate.threads == torch.get_num_threads()
    assert rate.flops_per_second > 1e6
