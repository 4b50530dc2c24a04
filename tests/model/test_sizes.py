"""Injection of sizes by name."""

from functools import partial

import pytest

from atomiclm.model import supply


class Component:
    def __init__(self, dim, layer=None, *, scale=1.0):
        self.given = {"dim": dim, "layer": layer, "scale": scale}


def test_a_component_gets_the_sizes_it_names():
    assert supply(Component, dim=8, layer=2, vocab_size=100).given == {"dim": 8, "layer": 2, "scale": 1.0}
    assert supply(partial(Component, scale=3.0), dim=8).given == {"dim": 8, "layer": None, "scale": 3.0}


def test_what_the_partial_holds_wins():
    assert supply(partial(Component, dim=4), dim=8, layer=1).given == {"dim": 4, "layer": 1, "scale": 1.0}
    assert supply(partial(Component, 4), dim=8, layer=1).given["dim"] == 4


def test_a_callable_that_stands_for_several_gets_everything():
    def choose(layer, **sizes):
        return supply(partial(Component, scale=float(layer)), layer=layer, **sizes)

    assert supply(choose, dim=8, layer=5, vocab_size=3).given == {"dim": 8, "layer": 5, "scale": 5.0}


def test_a_class_is_not_given_what_only_its_ancestors_name():
    class Ancestor:
        def __init__(self, *args, **kwargs):
            assert not kwargs

    assert isinstance(supply(Ancestor, dim=8), Ancestor)


def test_what_nobody_gives_is_named():
    def needy(dim, width):
        return dim, width

    with pytest.raises(
        ValueError, match=r"needy needs width: the decoder supplies dim, layer; .*partial\(needy, width=\.\.\."
    ):
        supply(needy, dim=8, layer=0)
