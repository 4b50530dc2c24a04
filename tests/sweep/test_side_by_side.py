"""How many cells of a sweep are trained at a time, and on how many threads: decided before the first trains."""

import pytest
import torch

from atomiclm.config.match import Rate
from atomiclm.config.run import compose_run
from atomiclm.sweep import Study, side_by_side
from atomiclm.sweep.plan import plan_sweep
from atomiclm.sweep.side_by_side import Share, share_machine
from atomiclm.training import Runtime

GIB = 2**30
LONG = ("trainer.max_tokens=100_000_000",)


@pytest.fixture
def machine(monkeypatch):
    """Sets cores and free memory; steps run at 1e11 FLOP/s, and torch takes all cores unless set otherwise."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def of(cores, gib=64.0):
        monkeypatch.setattr(side_by_side, "usable_cores", lambda: cores)
        monkeypatch.setattr(side_by_side, "free_memory", lambda: int(gib * GIB))
        monkeypatch.setattr(side_by_side, "machine_rate", lambda values: Rate(1e11, "a test's"))
        monkeypatch.setattr(Runtime, "torchs_threads", cores)
        monkeypatch.setattr("os.cpu_count", lambda: cores)

    return of


def runs(count, *overrides):
    return [compose_run(["model=tiny", "tokenizer=bytes", f"seed={seed}", *overrides]) for seed in range(count)]


@pytest.mark.parametrize(
    ("cores", "count", "overrides", "expected"),
    [
        (2, 8, LONG, (2, 1)),
        (64, 4, LONG, (4, 16)),
        (8, 3, LONG, (3, 2)),
        (1, 8, LONG, (1, 1)),
        (2, 1, LONG, (1, 2)),
        (2, 8, ("trainer.max_tokens=10_000",), (1, 2)),
        (2, 8, ("trainer.max_tokens=null", "trainer.max_seconds=100"), (1, 2)),
        (8, 8, (*LONG, "runtime.num_threads=4"), (2, 4)),
        (8, 8, (*LONG, "runtime.parallel=3"), (3, 2)),
        (8, 8, (*LONG, "runtime.parallel=1"), (1, 8)),
        (2, 8, ("trainer.max_tokens=10_000", "runtime.parallel=4"), (4, 1)),
    ],
)
def test_the_cores_are_divided_among_the_cells(machine, cores, count, overrides, expected):
    machine(cores)
    planned = runs(count, *overrides)
    share = share_machine(planned, planned)
    assert (share.cells, share.threads) == expected


def test_cells_that_are_left_have_the_threads_of_all(machine):
    machine(2)
    planned = runs(8, *LONG)
    assert share_machine(planned, planned[-1:]) == Share(1, 1, 2)
    assert share_machine(planned[-1:], planned[-1:], threads=1).threads == 1, "a later command asks for one more"
    before = share_machine(planned, planned, threads=2)
    assert (before.cells, before.threads) == (1, 2), "a sweep that was begun one after another"
    assert "threads as before under this name" in str(before)
    assert "as before under this name" in str(share_machine(planned[-1:], planned[-1:], threads=1))


def test_what_a_cell_in_this_process_set_is_not_taken_for_torchs_choice(machine):
    """The last cell is trained in the process that may go on to plan more seeds, for processes of their own."""
    machine(2)
    (cell,) = plan_sweep(["model=tiny", "tokenizer=bytes", *LONG], Study())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert cell.with_threads(1).overrides[-1] == "runtime.num_threads=1"
        assert cell.with_threads(1).cell.command.endswith(" runtime.num_threads=1"), "alone it goes on bit-equal"
        assert cell.with_threads(2) is cell
        assert share_machine([cell.run], [cell.run]).threads == 2
    finally:
        torch.set_num_threads(before)


def test_the_threads_that_the_environment_gives_are_obeyed(machine, monkeypatch):
    machine(8)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(Runtime, "torchs_threads", 4)
    planned = runs(8, *LONG)
    assert share_machine(planned, planned) == Share(2, 4, 8)


def test_no_more_cells_than_fit_into_the_memory_that_is_free(machine):
    machine(8, gib=2.0)
    planned = runs(8, *LONG)
    share = share_machine(planned, planned)
    assert (share.cells, share.threads, share.reason) == (3, 2, "memory for 3 at a time")
    assert str(share).startswith("3 cells side by side (memory for 3 at a time), 2 threads each; runtime.parallel=1")
    machine(8, gib=0.1)
    asked = runs(8, *LONG, "runtime.parallel=8")
    assert str(share_machine(asked, asked)) == "cells one after another: memory for 1 at a time"


def test_a_seconds_budget_says_why_its_cells_wait_for_each_other(machine):
    machine(2)
    planned = runs(2, "trainer.max_tokens=null", "trainer.max_seconds=100")
    assert "budget in seconds" in str(share_machine(planned, planned))
    short = runs(2, "trainer.max_tokens=10_000")
    assert str(share_machine(short, short)) == "", "nothing to say of what takes a moment"
