"""Left behind at a random step and gone on with from disk, every kind of run ends as the one never left."""

import random

import pytest
import torch
from faults.small_runs import OPTIMIZERS, SAVED_EVERY, SCHEDULES, STEPS, Setting, go_on, outcome

SETTINGS = [
    *(Setting(name, schedule) for name, schedule in zip(OPTIMIZERS, [*SCHEDULES, "constant"], strict=True)),
    *(Setting(name, schedule) for name, schedule in zip(OPTIMIZERS, [*list(SCHEDULES)[::-1], "wsd"], strict=True)),
    *(Setting("adamw", schedule, average=True) for schedule in SCHEDULES),
    *(Setting("muon", "wsd", data, micro_batch_size=2) for data in ("drawn", "mixed", "packed")),
    *(Setting("adamw", data=data, average=True, micro_batch_size=1) for data in ("mixed", "packed")),
    Setting("adamw", "linear", precision="bfloat16"),
    Setting("soap", precision="bfloat16", average=True, experts=True),
    Setting("lion", experts=True, micro_batch_size=2, recompute=True),
    Setting("schedule_free", "constant", "packed", lookahead=True),
    Setting("muon", lookahead=True, experts=True, average=True),
    Setting("muon", compiled=True),
    Setting("adamw", experts=True, micro_batch_size=2, recompute=True, compiled=True),
]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.one_in(9)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_left_twice_and_gone_on_with_it_is_the_same_run(tmp_path, setting):
    whole, left = tmp_path / "whole", tmp_path / "left"
    go_on(setting, whole)
    chance = random.Random(str(setting))
    first = chance.randrange(SAVED_EVERY + 1, STEPS - 4)  # both in one epoch, as one may be
    go_on(setting, left, first)
    go_on(setting, left, chance.randrange(first, STEPS))
    go_on(setting, left)
    assert outcome(left) == outcome(whole)


def test_a_run_left_before_its_first_checkpoint_begins_again(tmp_path):
    whole, left = tmp_path / "whole", tmp_path / "left"
    go_on(Setting(), whole)
    go_on(Setting(), left, 2)
    go_on(Setting(), left)
    assert outcome(left) == outcome(whole)
