"""Signatures are read from source, without importing what they belong to."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from atomiclm.config.signature import UnknownTarget, read_signature

TARGETS = [
    "atomiclm.training.Trainer", "atomiclm.training.Runtime", "atomiclm.optim.AdamW", "atomiclm.optim.Cosine",
    "atomiclm.model.Decoder", "atomiclm.model.MultiHeadAttention", "atomiclm.model.RotaryEmbedding",
    "atomiclm.data.TextFiles", "atomiclm.data.ShuffledWindows", "atomiclm.tokenizer.BasicTokenizer",
    "atomiclm.tracking.WeightsAndBiases", "atomiclm.evaluation.Evaluation", "atomiclm.training.Budget",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_equals_what_python_says_of_the_imported_class(target):
    module, _, name = target.rpartition(".")
    inspected = inspect.signature(getattr(import_module(module), name)).parameters
    read = read_signature(target).parameters
    assert list(read) == list(inspected)
    for parameter in inspected.values():
        assert read[parameter.name].required == (parameter.default is inspect.Parameter.empty), parameter.name


def test_reading_imports_nothing():
    code = (
        "import sys; from atomiclm.config.signature import read_signature\n"
        f"for target in {TARGETS!r}: read_signature(target)\n"
        "assert not {'torch', 'wandb', 'numpy', 'atomiclm.model', 'atomiclm.training'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_type_alias_is_followed_across_modules():
    annotation = read_signature("atomiclm.training.Trainer").parameters["precision"].annotation
    assert annotation is not None
    assert ast.unparse(annotation) == "Literal['auto', 'float32', 'bfloat16']"


@pytest.mark.parametrize(
    ("target", "known"),
    [("atomiclm.optim.AdmW", "AdamW"), ("atomiclm.model.Decodr", "Decoder"), ("atomiclm.nowhere.Thing", None)],
)
def test_an_unknown_target_offers_the_names_beside_it(target, known):
    with pytest.raises(UnknownTarget) as caught:
        read_signature(target)
    assert known is None or known in caught.value.known


def test_a_class_outside_the_package_is_read_too():
    parameters = read_signature("torch.optim.SGD").parameters
    assert {"lr", "momentum", "nesterov"} <= set(parameters)


def test_what_is_neither_ours_nor_trusted_is_not_even_read():
    with pytest.raises(UnknownTarget, match="naming it would run it"):
        read_signature("builtins.range")
