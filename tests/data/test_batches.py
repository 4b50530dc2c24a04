"""Batches of a prepared corpus."""

import subprocess
import sys

import numpy as np
import pytest

from atomiclm.data import (
    ShuffledWindows,
    TextDataset,
    TextFiles,
    ValidationWindows,
    prepare,
    training_batches,
)


def test_batches_of_a_corpus_start_anywhere_and_validation_repeats(corpus_folder, byte_tokenizer, tmp_path):
    corpus = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache")
    train, validation = (
        training_batches(corpus, 32, ShuffledWindows(1)),
        ValidationWindows(corpus.validation.tokens, 32, 4),
    )
    batches = [train.batch(step, 4) for step in range(6)]
    for step in (4, 5):
        late = training_batches(corpus, 32, ShuffledWindows(1)).batch(step, 4)
        np.testing.assert_array_equal(batches[step].inputs, late.inputs)
        np.testing.assert_array_equal(batches[step].targets, late.targets)
    assert batches[0].inputs.flags.writeable
    assert batches[0].mask is None
    assert batches[0].documents is None
    first, second = list(validation), list(validation)
    assert len(first) == len(second)
    for left, right in zip(first, second, strict=True):
        for name in ("inputs", "targets", "mask"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert sum(int(batch.mask.sum()) for batch in first) == corpus.validation.num_tokens - 1


def test_documents_are_told_apart_where_that_is_wanted(corpus_folder, byte_tokenizer, tmp_path):
    corpus = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache")
    train = training_batches(corpus, 64, ShuffledWindows(1), separate_documents=True).batch(0, 4)
    validation = ValidationWindows(corpus.validation.tokens, 64, 4, separator=256)
    for batch in (train, *validation):
        for inputs, documents in zip(batch.inputs, batch.documents, strict=True):
            expected = np.array([(inputs[: place + 1] == 256).sum() for place in range(64)])
            np.testing.assert_array_equal(documents, expected)


def test_one_epoch_of_batches_shows_every_token_but_the_ends():
    tokens = np.arange(1000, dtype=np.uint16)
    order = ShuffledWindows(0)
    dataset = TextDataset(tokens, 10, order)
    steps = order.windows_per_epoch(1000, 10) // 7
    seen = np.concatenate([dataset.batch(step, 7).targets.ravel() for step in range(steps)])
    assert len(np.unique(seen)) == len(seen) == steps * 70


def test_a_stream_too_short_is_refused_at_once():
    with pytest.raises(ValueError, match="context_length=64 needs 65 tokens, the corpus has 10"):
        TextDataset(np.zeros(10, dtype=np.uint16), 64, ShuffledWindows(0))
    with pytest.raises(ValueError, match="at least 2 are needed"):
        next(iter(ValidationWindows(np.zeros(1, dtype=np.uint16), 4, 2)))


def test_the_package_imports_neither_torch_nor_the_other_packages():
    code = (
        "import sys, atomiclm.data; "
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'pyarrow', 'zstandard', 'hydra') "
        "or name.startswith(('atomiclm.tokenizer', 'atomiclm.model', 'atomiclm.training'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
