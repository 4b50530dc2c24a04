"""A corpus and a model that cannot go together are refused before training, with the number that would do."""

import pytest

from atomiclm.config.load import prepare_corpus

BYTES = {
    "_target_": "atomiclm.tokenizer.BasicTokenizer",
    "vocab_size": 257,
    "pattern": "none",
    "special_tokens": ["<|endoftext|>"],
}
RECALL = {"_target_": "atomiclm.data.AssociativeRecall", "num_documents": 100}


def prepared(tmp_path, data, context_length):
    return prepare_corpus(
        {"cache_dir": str(tmp_path), "data": data, "tokenizer": BYTES, "model": {"context_length": context_length}}
    )


def test_answers_need_their_questions_in_the_context(tmp_path):
    """8 pairs and 8 queries of 2 bytes, the mark and the separator: 34 tokens."""
    with pytest.raises(ValueError, match=r"model.context_length: 33 is too short for the corpus: .* at least 34"):
        prepared(tmp_path, RECALL, 33)
    assert prepared(tmp_path, RECALL, 34).validation.longest_document() == 34


def test_the_source_that_is_too_short_is_named(tmp_path):
    chain = {"_target_": "atomiclm.data.Markov", "num_documents": 9, "document_bytes": 20, "validation_fraction": 0.4}
    mixture = {
        "_target_": "atomiclm.data.Mixture",
        "sources": {"recall": RECALL, "chain": chain},
        "weights": {"recall": 1.0, "chain": 1.0},
    }
    with pytest.raises(ValueError, match=r"model.context_length: 500 is longer than the source chain: its training"):
        prepared(tmp_path, mixture, 500)
    with pytest.raises(ValueError, match=r"model.context_length: 30 is too short for the source recall"):
        prepared(tmp_path, mixture, 30)
    assert len(prepared(tmp_path, mixture, 40).parts) == 2
