"""Several sources in one corpus: each as it would be alone, one tokenizer for all, in proportion."""

import json

import numpy as np
import pytest

from atomiclm.data import (
    END_OF_TEXT,
    BestFit,
    Copy,
    Markov,
    Mixture,
    ShuffledWindows,
    TextFiles,
    ValidationWindows,
    prepare,
    training_batches,
)


@pytest.fixture
def sources(corpus_folder):
    return {
        "files": TextFiles(str(corpus_folder), 0.3),
        "chain": Markov(num_documents=50, document_bytes=200, validation_fraction=0.2),
        "copy": Copy(num_documents=100, validation_fraction=0.2),
    }


WEIGHTS = {"files": 5.0, "chain": 3.0, "copy": 2.0}


def test_each_source_is_as_it_would_be_alone(sources, byte_tokenizer, tmp_path):
    mixture = prepare(Mixture(sources, WEIGHTS), byte_tokenizer(), tmp_path)
    assert [part.name for part in mixture.parts] == ["files", "chain", "copy"]
    assert [part.weight for part in mixture.parts] == pytest.approx([0.5, 0.3, 0.2])
    for part in mixture.parts:
        alone = prepare(sources[part.name], byte_tokenizer(), tmp_path)
        ours, its = mixture.manifest["parts"][part.name]["validation"], alone.manifest["validation"]
        assert ours["sha256"] == its["sha256"]
        for split in ("train", "validation"):
            mine, own = getattr(part, split), getattr(alone, split)
            np.testing.assert_array_equal(mine.tokens, own.tokens)
            assert (mine.num_bytes, mine.num_documents) == (own.num_bytes, own.num_documents)
            assert (mine.answers is None) == (own.answers is None) == (part.name != "copy")
            if own.answers is not None:
                np.testing.assert_array_equal(mine.answers, own.answers)
        assert part.answers_only == (part.name == "copy")
    for split in ("train", "validation"):
        whole, parts = getattr(mixture, split), [getattr(part, split) for part in mixture.parts]
        np.testing.assert_array_equal(whole.tokens, np.concatenate([part.tokens for part in parts]))
        assert whole.num_bytes == sum(part.num_bytes for part in parts)
        assert mixture.raw_bytes(split) == bytes(token for token in whole.tokens.tolist() if token < 256)
    expected = sum(part.weight * part.train.num_bytes / part.train.num_tokens for part in mixture.parts)
    assert mixture.bytes_per_training_token == pytest.approx(expected)
    assert mixture.anchors == {"entropy/chain": sources["chain"].entropy_bits}
    assert json.dumps(mixture.manifest)


@pytest.mark.slow
def test_the_tokenizer_sees_training_text_in_the_proportion_of_the_weights(byte_tokenizer, tmp_path):
    sources = {
        "a": Markov(num_symbols=4, num_documents=2000, document_bytes=50, seed=1),
        "b": Copy(num_documents=3000, num_symbols=60),
    }
    for weights in ({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 9.0}):
        corpus = prepare(Mixture(sources, weights), byte_tokenizer(), tmp_path)
        shown = corpus.tokenizer.trained_on.split(END_OF_TEXT)
        held_out = set()
        for split in np.split(corpus.validation.tokens, np.flatnonzero(corpus.validation.tokens == 256))[1:]:
            held_out.add(bytes(split[1:].tolist()).decode())
        assert not held_out & set(shown)
        shares = np.array([sum(len(text) for text in shown if ("|" in text) == copied) for copied in (False, True)])
        wanted = np.array([weights["a"], weights["b"]]) / sum(weights.values())
        np.testing.assert_allclose(shares / shares.sum(), wanted, atol=0.02)
        trained = [part.train.num_bytes for part in corpus.parts]
        assert max(shares / trained) > 0.97  # one of them is used up


def test_a_mixture_is_built_once_and_other_weights_share_the_shards_of_an_equal_tokenizer(
    sources, byte_tokenizer, tmp_path, stages, monkeypatch
):
    monkeypatch.setattr("atomiclm.data.source.SETTLED_SECONDS", 0.0)
    first = prepare(Mixture(sources, WEIGHTS), byte_tokenizer(), tmp_path)
    second = prepare(Mixture(sources, WEIGHTS), byte_tokenizer(), tmp_path, progress=stages)
    assert stages == []
    assert second.manifest == first.manifest
    other = prepare(Mixture(sources, {**WEIGHTS, "copy": 9.0}), byte_tokenizer(), tmp_path)
    assert other.manifest["corpus_sha256"] == first.manifest["corpus_sha256"]
    assert other.parts[2].weight == pytest.approx(9 / 17)
    reordered = dict(reversed(sources.items()))
    assert prepare(Mixture(reordered, WEIGHTS), byte_tokenizer(), tmp_path).folder != first.folder


@pytest.mark.parametrize("order", [ShuffledWindows(4), BestFit(4)])
def test_training_mixes_and_validation_keeps_apart(sources, byte_tokenizer, tmp_path, order):
    corpus = prepare(Mixture(sources, WEIGHTS), byte_tokenizer(), tmp_path)
    dataset = training_batches(corpus, 64, order, separate_documents=True)
    batch = dataset.batch(3, 200)
    is_copy = (batch.inputs == ord("|")).any(axis=1)
    assert abs(is_copy.mean() - 0.2) < 0.12
    assert batch.mask[is_copy].mean() < 0.55  # answers only
    if isinstance(order, ShuffledWindows):
        assert batch.mask[~is_copy].mean() > 0.9
        assert dataset.facts() == {}
    else:
        assert {key.partition("/")[2] for key in dataset.facts()} == set(sources)
        assert 0 <= dataset.facts()["padding_share/copy"] < 1
    assert [part.name for part in corpus.parts] == list(sources)
    for part in corpus.parts:
        windows = ValidationWindows(part.validation.tokens, 64, 16)
        targets = np.concatenate([batch.targets[batch.mask] for batch in windows])
        np.testing.assert_array_equal(targets, part.validation.tokens[1:])


def test_a_mixture_in_a_mixture_is_flattened(sources, byte_tokenizer, tmp_path):
    inner = Mixture({"chain": sources["chain"], "copy": sources["copy"]}, {"chain": 1.0, "copy": 3.0})
    outer = Mixture({"files": sources["files"], "made": inner}, {"files": 1.0, "made": 1.0})
    corpus = prepare(outer, byte_tokenizer(), tmp_path)
    assert [(part.name, part.weight) for part in corpus.parts] == [
        ("files", 0.5), ("made/chain", 0.125), ("made/copy", 0.375)
    ]  # fmt: skip


def test_a_mixture_of_one_source_mixes_nothing(sources, byte_tokenizer, tmp_path):
    corpus = prepare(Mixture({"copy": sources["copy"]}, {"copy": 0.1}), byte_tokenizer(), tmp_path)
    (part,) = corpus.parts
    assert (part.name, part.weight) == ("copy", 1.0)
    np.testing.assert_array_equal(part.train.tokens, corpus.train.tokens)
    assert training_batches(corpus, 40, ShuffledWindows(0)).batch(0, 2).inputs.shape == (2, 40)


def test_mistakes_name_the_source(sources, byte_tokenizer, tmp_path):
    for weights, words in (
        ({"files": 1.0}, "weights: names files, the sources are chain, copy, files; give each source one weight"),
        ({**WEIGHTS, "copy": 0.0}, r"weights\.copy: 0\.0 is not positive and finite"),
        ({**WEIGHTS, "copy": float("inf")}, r"weights\.copy: inf is not positive"),
    ):
        with pytest.raises(ValueError, match=words):
            Mixture(sources, weights)
    with pytest.raises(ValueError, match="sources: is empty"):
        Mixture({}, {})
    with pytest.raises(ValueError, match=r"sources\.a: is not a source of text"):
        Mixture({"a": {"path": "x"}}, {"a": 1.0})
    missing = Mixture({**sources, "files": TextFiles(str(tmp_path / "nowhere"))}, WEIGHTS)
    assert [argument for argument, _ in missing.faults()] == ["sources.files.path"]
    with pytest.raises(ValueError, match=r"^sources\.files\.path: no file or folder"):
        prepare(missing, byte_tokenizer(), tmp_path / "cache")
    late = Mixture({"made": Mixture({"files": TextFiles(str(tmp_path), 1.5)}, {"files": 1.0})}, {"made": 1.0})
    with pytest.raises(ValueError, match=r"^sources\.made\.sources\.files\.validation_fraction: must lie"):
        prepare(late, byte_tokenizer(), tmp_path / "cache")
