"""What a class takes is read of the class itself, and a configured value is held against the annotation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from torch import nn

from atomiclm.config.build import Argument, TargetError, component, plain, read_constructor
from atomiclm.config.plugins import CONF

type Width = int | None

FITS = [
    (int, 3), (int, 1e6), (float, 3), (float, 3e-4), (bool, True), (str, "a"), (Path, "a/b"), (int | None, None),
    (int | None, 2), (Literal["a", "b"], "b"), (Literal[1, 2], 2), (list[int], [1, 2]), (Sequence[str], ["a"]),
    (tuple[float, float], [0.9, 0.95]), (tuple[int, ...], [1, 2, 3]), (dict[str, float], {"a": 1.0}),
    (Callable[..., nn.Module], {"_target_": "a.b"}), (float | None, None), (Any, object()),
    (list[float] | None, None), (set[str], ["a"]), (Width, 1e3), (Annotated[int, "features"], 2),
    (Mapping[str, Callable[..., nn.Module]], {"a": {"_target_": "b.c"}}), (int | Sequence[int | None], [1, None]),
]  # fmt: skip
DOES_NOT_FIT = [
    (int, 3.5, "x: 3.5 is not a whole number"), (int, True, "x: True is not a whole number"),
    (int, float("inf"), "x: inf is not a whole number"), (int, "3", "x: '3' is not a whole number"),
    (float, "abc", "x: 'abc' is not a number"), (float, True, "x: True is not a number"),
    (float, None, "x: None is not a number"), (bool, 1, "x: 1 is not true or false"),
    (bool, "true", "x: 'true' is not true or false"), (str, 1, "x: 1 is not text"),
    (int | None, "x", "x: 'x' is not a whole number"), (Literal["a", "b"], "c", "x: 'c' is not one of: 'a' or 'b'"),
    (list[int], [1, "2"], "x[1]: '2' is not a whole number"), (list[int], 1, "x: 1 is not a list"),
    (tuple[float, float], [0.9], "x: [0.9] does not fit: Field required"),
    (tuple[float, float], [1, 2, 3], "x: [1, 2, 3] does not fit: Tuple should have at most 2 items"),
    (Callable[..., nn.Module], 5, "x: 5 is not a component"), (nn.Module, {"lr": 1}, "x: {'lr': 1} is not a component"),
    (dict[str, float], [1], "x: [1] is not a mapping"), (dict[str, float], {"a": "b"}, "x.a: 'b' is not a number"),
    (Sequence[str], "text", "x: 'text' is not a list"), (Width, "3", "x: '3' is not a whole number"),
    (int | Sequence[int | None], "a", "x: 'a' is not a whole number or a list"),
    (int | Sequence[int | None], [1, "a"], "x[1]: 'a' is not a whole number"),
    (Mapping[str, nn.Module], {"a": 1}, "x.a: 1 is not a component"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), FITS)
def test_fits(annotation, value):
    assert Argument(plain(annotation)).fit("x", value)[1] == []


@pytest.mark.parametrize(("annotation", "value", "told"), DOES_NOT_FIT)
def test_does_not_fit_and_says_where_and_what_was_given(annotation, value, told):
    (fault,) = Argument(plain(annotation)).fit("x", value)[1]
    assert str(fault).startswith(told)


@pytest.mark.parametrize(
    ("annotation", "value", "kept"),
    [(float, 1, 1.0), (int, 1e6, 1_000_000), (int | None, 2.0, 2), (float | None, 3, 3.0), (bool, True, True)],
)
def test_a_number_becomes_what_is_annotated(annotation, value, kept):
    found = Argument(plain(annotation)).fit("x", value)[0]
    assert (found, type(found)) == (kept, type(kept))


def test_every_annotation_of_every_shipped_class_is_understood():
    """What a node of our options sets is held against something."""
    for file in CONF.rglob("*.yaml"):
        node = yaml.safe_load(file.read_text())
        target = node.get("_target_", "hydra_plugins")
        if not target.startswith("hydra_plugins"):
            constructor = read_constructor(component(target))
            for name, argument in constructor.arguments.items():
                assert argument.annotation is not Any, f"{target}: {name}"


@pytest.mark.parametrize(
    ("target", "known"),
    [("atomiclm.optim.AdmW", "AdamW"), ("atomiclm.model.Decodr", "Decoder"), ("atomiclm.data.nowhere.Thing", None)],
)
def test_an_unknown_target_offers_the_names_beside_it(target, known):
    with pytest.raises(TargetError) as caught:
        component(target)
    assert known is None or f"did you mean '{known}'?" in str(caught.value)


def test_a_class_of_torch_is_read_too():
    assert {"lr", "momentum", "nesterov"} <= set(read_constructor(component("torch.optim.SGD")).arguments)


def test_what_is_neither_ours_nor_trusted_is_not_even_imported():
    with pytest.raises(TargetError, match="naming it would run it"):
        component("builtins.range")
