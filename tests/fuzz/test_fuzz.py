"""Nothing gets in through a file: thousands of hostile ones before every reader, none of which breaks the law.

The law is in `judge.py`. `python tests/fuzz/fuzz.py --seconds 600 --seed 1` goes on from here.
"""

import pytest
from fuzz.families import FAMILIES
from fuzz.running import run

SEED = 6
# Inputs drawn by a seed, those drawn by hypothesis, and the share of the shaped ones: what a minute of one core allows.
INPUTS = {
    "tokenizers": (2600, 200, 0.7),
    "texts": (2200, 100, 0.6),
    "parquet": (1700, 100, 0.3),
    "huggingface": (280, 40, 0.1),
    "checkpoints": (100, 30, 0.1),
}


def test_every_family_is_run():
    assert INPUTS.keys() == FAMILIES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("family", INPUTS)
def test_every_input_is_accepted_or_refused_in_one_clear_sentence(family, tmp_path):
    count, by_hypothesis, share = INPUTS[family]
    report = run(family, SEED, tmp_path, count=count, share=share, by_hypothesis=by_hypothesis)
    print(report.line())
    again = (
        f"python tests/fuzz/fuzz.py --family {family} --seed {SEED} --only INPUT, or --by-hypothesis 1000: {tmp_path}"
    )
    assert not report.faults, "\n".join([again, *report.faults[:20]])
    assert report.num_inputs > count + by_hypothesis
    assert report.counts["refused"] > count / 10, "a fuzzer that finds nothing to refuse tests nothing"
    assert report.counts["accepted"] > report.num_inputs / 25, "nor one that never comes past the first check"
