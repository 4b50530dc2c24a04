"""Filters against transformers' and against the plainest code."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.generation import Sampler, keep_min_p, keep_top_k, keep_top_p


def random_logits(seed, rows=3, vocab=40):
    return 3 * torch.randn(rows, vocab, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 60),
    top_p=st.none() | st.floats(0.01, 1.0),
    min_p=st.none() | st.floats(0.0, 1.0),
)
def test_filters_in_a_row_equal_transformers(seed, temperature, top_k, top_p, min_p):
    from transformers.generation import logits_process

    logits = random_logits(seed)
    logits -= logits.amax(-1, keepdim=True)  # as ours does first
    theirs = logits_process.LogitsProcessorList([logits_process.TemperatureLogitsWarper(temperature)])
    if top_k is not None:
        theirs.append(logits_process.TopKLogitsWarper(top_k))
    if top_p is not None:
        theirs.append(logits_process.TopPLogitsWarper(top_p))
    if min_p is not None:
        theirs.append(logits_process.MinPLogitsWarper(min_p))
    assert torch.equal(Sampler(temperature, top_k, top_p, min_p).filter(logits), theirs(None, logits))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), top_k=st.integers(1, 40), share=st.floats(0.0, 1.0, exclude_min=True))
def test_filters_equal_loops(seed, top_k, share):
    logits = random_logits(seed, rows=1)
    probabilities = logits.softmax(-1)[0].tolist()
    order = sorted(range(40), key=lambda token: -probabilities[token])

    def kept(filtered):
        return set(filtered[0].isfinite().nonzero().flatten().tolist())

    assert kept(keep_top_k(logits, top_k)) == set(order[:top_k])
    nucleus, total = set(), 0.0
    for token in order:
        nucleus.add(token)
        total += probabilities[token]
        if total >= share:
            break
    assert kept(keep_top_p(logits, share)) == nucleus
    likely = {token for token in order if probabilities[token] >= share * probabilities[order[0]]}
    assert kept(keep_min_p(logits, share)) == likely
    for filtered in (keep_top_k(logits, top_k), keep_top_p(logits, share), keep_min_p(logits, share)):
        assert torch.equal(filtered[filtered.isfinite()], logits[filtered.isfinite()]), "kept scores are not changed"


def test_ties():
    logits = torch.zeros(1, 4)
    assert keep_top_k(logits, 2).isfinite().all(), "all tie with the second"
    assert keep_top_p(logits, 0.5).isfinite().tolist() == [[True, True, False, False]]
    assert keep_min_p(logits, 1.0).isfinite().all()


def test_a_share_of_one_keeps_what_is_too_unlikely_for_a_sum_to_show():
    logits = torch.tensor([[0.0, -40.0, -50.0]], dtype=torch.float64)  # 1 + e^-40 is 1
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_rows_are_filtered_apart():
    logits = torch.tensor([[4.0, 0.0, 0.0, 0.0], [1.0, 1.1, 1.2, 1.3]])
    kept = keep_top_p(logits, 0.9)
    assert kept.isfinite().sum(-1).tolist() == [1, 4]


@pytest.mark.parametrize("top_k", [40, 41, 1000])
def test_more_than_the_vocabulary_keeps_all(top_k):
    assert keep_top_k(random_logits(0), top_k).isfinite().all()
