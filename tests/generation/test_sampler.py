"""The sampler draws what its filters leave, from the generator it is given."""

import pytest
import torch

from atomiclm.generation import Sampler


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_greedy_takes_the_first_of_the_highest_and_draws_nothing():
    logits = torch.tensor([[0.0, 2.0, 2.0], [5.0, 1.0, 1.0]])
    sources = generators(1, 2)
    states = [source.get_state() for source in sources]
    assert Sampler(temperature=0, top_k=1, top_p=0.1)(logits, sources).tolist() == [1, 0]
    assert all(torch.equal(source.get_state(), state) for source, state in zip(sources, states, strict=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_are_the_probabilities(temperature):
    logits = torch.tensor([[1.0, -1.0, 0.5, -30.0, 2.0]])
    probabilities = (logits[0].double() / temperature).softmax(-1)
    draws = 20_000
    source = generators(3)[0]
    ids = Sampler(temperature)(logits.expand(draws, -1), [source] * draws)
    counts = torch.bincount(ids, minlength=5) / draws
    # Five standard deviations of a binomial share.
    assert torch.all((counts - probabilities).abs() <= 5 * (probabilities * (1 - probabilities) / draws).sqrt() + 1e-9)


def test_what_is_filtered_out_is_never_drawn():
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    kept = set(logits[0].topk(3).indices.tolist())
    source = generators(4)[0]
    drawn = set(Sampler(temperature=5.0, top_k=3)(logits.expand(2000, -1), [source] * 2000).tolist())
    assert drawn == kept


def test_the_ends_of_the_unit_interval_stay_in_range(monkeypatch):
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    for uniform, expected in ((0.0, 1), (1 - 2.0**-53, 2), (0.5, 2)):
        monkeypatch.setattr(torch, "rand", lambda *a, value=uniform, **k: torch.tensor([value], dtype=torch.float64))
        assert Sampler()(logits, generators(0)).tolist() == [expected]


def test_a_row_depends_on_its_scores_and_its_generator_only():
    logits = torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    sampler = Sampler()
    together = sampler(logits, generators(1, 2, 3)).tolist()
    alone = [sampler(logits[row : row + 1], generators(row + 1)).item() for row in range(3)]
    assert together == alone
    many = {tuple(sampler(logits, generators(seed, 2, 3)).tolist()[1:]) for seed in range(20)}
    assert len(many) == 1


def test_global_random_state_is_not_touched():
    before = torch.get_rng_state()
    Sampler()(torch.zeros(1, 9), generators(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_temperature_changes_the_scores():
    logits = torch.tensor([[1.0, 2.0]])
    assert Sampler(0.5).filter(logits).tolist() == [[-2.0, 0.0]]
    assert Sampler(2.0).filter(logits).tolist() == [[-0.5, 0.0]]


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_p": 0.9, "min_p": 0.1}])
@pytest.mark.parametrize("temperature", [1e-300, 1e-307, 5e-324])
def test_the_least_temperatures_take_the_highest_score(temperature, filters):
    logits = 20 * torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    logits[:, 7] = -torch.inf
    drawn = Sampler(temperature, **filters)(logits, generators(*range(50)))
    assert torch.equal(drawn, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("scores", [[0.0, float("nan")], [0.0, float("inf")], [-float("inf"), -float("inf")]])
def test_scores_that_are_not_numbers_are_refused(scores, temperature):
    with pytest.raises(ValueError, match="NaN or infinite"):
        Sampler(temperature)(torch.tensor([[0.0, 1.0], scores]), generators(0, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1 must be 0 .greedy. or a positive number"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0 must be at least 1"),
        ({"top_p": 0.0}, "top_p=0.0 must be above 0"),
        ({"top_p": 1.1}, "top_p=1.1 must be above 0 and at most 1"),
        ({"min_p": -0.1}, "min_p=-0.1 must be between 0 and 1"),
        ({"min_p": 2.0}, "min_p=2.0 must be between 0 and 1"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**arguments)
