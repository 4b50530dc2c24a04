"""Whether a run resumes exactly is declared, with reasons."""

import pytest
import torch
from small_run import runtime

from atomiclm.training.processes import Processes
from atomiclm.training.runtime import reasons_inexact

HASHES = {"corpus_sha256": "a" * 64, "tokenizer_sha256": "b" * 64, "code_sha256": "c" * 64}


def _now(**changes):
    return {**runtime().conditions(torch.float32), **Processes().conditions(), **HASHES, **changes}


def test_the_same_conditions_are_exact():
    assert reasons_inexact(_now(), _now()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"torch": "1.0"}, "torch was 1.0 and is "),
        ({"threads": 64}, "threads was 64 and is "),
        ({"dtype": "bfloat16"}, "dtype was bfloat16 and is float32"),
        ({"native_bfloat16": None}, "native_bfloat16 was None and is "),
        ({"compile": True}, "compile was True and is False"),
        ({"world_size": 2}, "world_size was 2 and is 1"),
        ({"device": "another"}, "device was another and is "),
        ({"micro_batch_size": 2}, "micro_batch_size was 2 and is None"),
        ({"corpus_sha256": "d" * 64}, "corpus_sha256 was dddddddddddd and is aaaaaaaaaaaa"),
        ({"code_sha256": "d" * 64}, "code_sha256 was dddddddddddd and is cccccccccccc"),
        ({"code_sha256 of mine": "e" * 64}, "code_sha256 of mine was eeeeeeeeeeee and is None"),
    ],
)
def test_each_change_is_a_reason(changes, reason):
    (found,) = reasons_inexact(_now(**changes), _now())
    assert found.startswith(reason)


def test_a_checkpoint_that_says_nothing_is_not_exact():
    assert len(reasons_inexact(None, _now())) == 1


def test_what_is_recorded_is_what_is_so():
    now = _now()
    assert now["torch"] == torch.__version__
    assert now["threads"] == torch.get_num_threads()
    assert (now["dtype"], now["compile"], now["world_size"]) == ("float32", False, 1)
    assert {**now, **HASHES} == now
