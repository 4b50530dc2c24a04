"""`BasicTokenizer` trains by kernels what it trains in plain Python, and both say the same about the corpus."""

import random
from collections.abc import Iterator

import pytest
from tokenizer.thresholds import kernels_from

from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tokenizer.fast import Task, why_unavailable
from atomiclm.tokenizer.pretokenize import Chunk

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


def chunks_of(seed: int) -> list[Chunk]:
    """Pieces of a stream, special tokens and weighted documents in any order."""
    rng = random.Random(seed)
    pieces: list[Chunk] = []
    for _ in range(40):
        text = "".join(rng.choices(["ab", "ba", " ab", "é", "日本", "\n ", "12", "'s", END_OF_TEXT], k=20))
        pieces.append(rng.choice([text, text.encode(), (text, rng.randrange(1, 9)), (text.encode(), 3)]))
    return pieces


@pytest.mark.parametrize("tie_break", ["bytes", "huggingface"])
@pytest.mark.parametrize("pattern", ["gpt4", "none", r"[ab]+|\d"])
def test_every_algorithm_learns_the_same_of_the_same_stream(
    pattern: str, tie_break: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, compiled_from in enumerate((0, 1, 100, 1000)):  # how much is looked at before kernels are chosen
        kernels_from(compiled_from, monkeypatch)
        results = []
        for algorithm in ("compiled", "heap", "basic"):
            tokenizer = BasicTokenizer(330, pattern, algorithm=algorithm, tie_break=tie_break)
            monkeypatch.setattr(tokenizer, f"_train_{'heap' if algorithm == 'basic' else 'basic'}", None)
            if algorithm == "compiled":
                monkeypatch.setattr(tokenizer, "_train_heap", None)  # it must not be what is called
            tokenizer.train_from_iterator(iter(chunks_of(seed)))
            results.append((tokenizer.merges, tokenizer.trained_on))
        assert results[0] == results[1] == results[2]
        assert len(results[0][0]) > 20


@pytest.mark.parametrize("seed", range(4))
def test_parts_counted_apart_in_any_order_are_the_stream(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_from(0, monkeypatch)
    whole, apart = (BasicTokenizer(330, algorithm=algorithm) for algorithm in ("heap", "compiled"))
    parts = [[*chunks_of(10 * seed + part), END_OF_TEXT] for part in range(5)]
    whole.train_from_iterator([chunk for part in parts for chunk in part])
    assert apart.counts_apart(1)
    assert not whole.counts_apart(1)
    random.Random(seed).shuffle(parts)
    apart.train_from_counts(apart.count(part) for part in parts)
    assert (apart.merges, apart.trained_on) == (whole.merges, whole.trained_on)
    assert len(apart.merges) > 20


def test_what_is_said_about_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_from(1 << 18, monkeypatch)
    for algorithm in ("compiled", "heap"):
        tokenizer = BasicTokenizer(300, algorithm=algorithm)
        repeated = 1 << 17
        tokenizer.train_from_iterator(["ab " * repeated + END_OF_TEXT, ("ab cd", 5)])
        assert tokenizer.trained_on == {
            "bytes": 3 * repeated + 25,  # special tokens are no text
            "pretokens": repeated + 1 + 10,  # "ab", " ab" and the last blank
            "distinct_pretokens": 4,
        }


@pytest.mark.parametrize("chunk", ["ab cd " * 1000, ("ab cd " * 1000, 2)])
def test_a_long_stream_is_not_gathered_before_it_is_read(chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are chosen after a look at the beginning; a weighted document counts as what it holds."""
    kernels_from(1 << 18, monkeypatch)
    read = 0
    seen: list[int] = []
    tokenizer = BasicTokenizer(260)
    choose = tokenizer._compiles

    def stream() -> Iterator[Chunk]:
        nonlocal read
        for _ in range(60):
            read += 1
            yield chunk

    def watched(num_bytes: int, task: Task) -> bool:
        seen.append(read)
        return choose(num_bytes, task)

    monkeypatch.setattr(tokenizer, "_compiles", watched)
    tokenizer.train_from_iterator(stream())
    assert 40 < seen[0] < 50


def test_training_again_by_kernels_forgets_the_old_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_from(0, monkeypatch)
    tokenizer = BasicTokenizer(260)
    for text in ("aaaa aaaa", "bbbb bbbb"):
        tokenizer.train(text)
        assert tokenizer.encode("aaaabbbb") == tokenizer._plain.encode(b"aaaabbbb")


def test_training_while_another_thread_encodes_leaves_no_old_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_from(0, monkeypatch)
    tokenizer = BasicTokenizer(260)
    tokenizer.train("aaaa aaaa")
    with tokenizer._pool().borrow():
        tokenizer.train("bbbb bbbb")
    assert tokenizer.encode("aaaabbbb") == tokenizer._plain.encode(b"aaaabbbb")
