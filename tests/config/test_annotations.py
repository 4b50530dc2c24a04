"""A configured value is held against the annotation of its argument."""

import ast

import pytest

from atomiclm.config.annotations import mismatch

FITS = [
    ("int", 3), ("int", 1e6), ("float", 3), ("float", 3e-4), ("bool", True), ("str", "a"), ("Path", "a/b"),
    ("int | None", None), ("int | None", 2), ("Literal['a', 'b']", "b"), ("Literal[1, 2]", 2),
    ("list[int]", [1, 2]), ("Sequence[str]", ["a"]), ("tuple[float, float]", [0.9, 0.95]),
    ("tuple[int, ...]", [1, 2, 3]), ("dict[str, float]", {"a": 1.0}), ("Callable[..., X]", {"_target_": "a.b"}),
    ("Optional[float]", None), ("Any", object()), ("list[float] | None", None), ("set[str]", ["a"]),
]  # fmt: skip
DOES_NOT_FIT = [
    ("int", 3.5), ("int", True), ("int", float("inf")), ("int", "3"), ("float", "abc"), ("float", True),
    ("float", None), ("bool", 1),
    ("bool", "true"), ("str", 1), ("int | None", "x"), ("Literal['a', 'b']", "c"), ("list[int]", [1, "2"]),
    ("list[int]", 1), ("tuple[float, float]", [0.9]), ("tuple[float, float]", [1, 2, 3]), ("Callable[..., X]", 5),
    ("Module", {"lr": 1}), ("dict[str, float]", [1]), ("Sequence[str]", "text"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), FITS)
def test_fits(annotation, value):
    assert mismatch(ast.parse(annotation, mode="eval").body, value) is None


@pytest.mark.parametrize(("annotation", "value"), DOES_NOT_FIT)
def test_does_not_fit_and_says_what_was_given(annotation, value):
    reason = mismatch(ast.parse(annotation, mode="eval").body, value)
    assert reason is not None
    shown = value[-1] if isinstance(value, list) and annotation == "list[int]" else value
    assert repr(shown) in reason
