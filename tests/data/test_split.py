"""Who is held out."""

import hashlib
import math

import pytest

from atomiclm.data import Document, SourceError, TextSource
from atomiclm.data.source import check_split, document_bytes, hash_number, split_document, survey


class Texts(TextSource):
    def __init__(self, texts):
        super().__init__(0.1)
        self.texts = texts

    def describe(self):
        return "texts"

    def documents(self):
        return (Document("", text) for text in self.texts)


def surveyed(texts):
    return survey(Texts(texts), lambda num_bytes: None)


def sides(texts, fraction):
    found = surveyed(texts)
    check_split(found, fraction)
    return {text: next(split_document(Document("", text), text.encode(), found, fraction))[0] for text in texts}


def test_the_rule_is_the_stated_one():
    raw = b"Ein Text."
    whole = int.from_bytes(hashlib.sha256(raw).digest()[:8], "big") / 2**64
    assert hash_number(raw) == pytest.approx(whole, abs=2**-53)
    assert 0.0 <= hash_number(raw) < 1.0


def test_the_share_held_out_is_the_fraction():
    texts = [f"text {number}" for number in range(4000)]
    held_out = sum(side == "validation" for side in sides(texts, 0.1).values())
    assert abs(held_out - 400) < 4 * math.sqrt(4000 * 0.1 * 0.9)


def test_adding_or_removing_a_document_moves_no_other():
    texts = [f"text {number}" for number in range(50)]
    before = sides(texts, 0.2)
    for change in (["new", *texts], texts[7:], texts[::-1]):
        after = sides(change, 0.2)
        assert all(after[text] == before[text] for text in texts if text in after)


def test_a_larger_fraction_only_adds_to_validation():
    texts = [f"text {number}" for number in range(200)]
    held = [{text for text, side in sides(texts, f).items() if side == "validation"} for f in (0.1, 0.3, 0.6)]
    assert held[0] < held[1] < held[2]


@pytest.mark.parametrize(("length", "fraction", "train"), [(1_115_394, 0.1, 1_003_854), (10, 0.1, 9), (7, 0.5, 3)])
def test_a_single_document_is_cut_by_position_in_characters(length, fraction, train):
    text = "ü" * length  # two bytes each: characters are counted
    found = surveyed([text])
    parts = list(split_document(Document("", text), text.encode(), found, fraction))
    assert [split for split, _ in parts] == ["train", "validation"]
    assert [len(part) for _, part in parts] == [train, length - train]


def test_an_empty_split_is_refused_and_the_named_fraction_works():
    texts = [f"text {number}" for number in range(5)]
    found = surveyed(texts)
    for fraction in (found.lowest / 2, (found.highest + 1) / 2):
        with pytest.raises(SourceError) as raised:
            check_split(found, fraction)
        assert raised.value.argument == "validation_fraction"
        named = float(raised.value.message.split("set data.validation_fraction=")[1].split(",")[0])
        assert len(set(sides(texts, named).values())) == 2


def test_the_borders_of_an_empty_split():
    found = surveyed(["a", "b", "c"])
    with pytest.raises(SourceError, match="validation split is empty"):
        check_split(found, found.lowest)
    check_split(found, math.nextafter(found.lowest, 1))
    check_split(found, found.highest)
    with pytest.raises(SourceError, match="training split is empty"):
        check_split(found, math.nextafter(found.highest, 1))


def test_copies_of_one_document_cannot_be_split():
    with pytest.raises(SourceError, match="join the documents into one file"):
        check_split(surveyed(["same", "same"]), 0.5)


@pytest.mark.parametrize(("text", "fraction", "empty"), [("x", 0.5, "training"), ("abc", 1e-9, "validation")])
def test_a_document_too_short_to_be_cut_is_refused(text, fraction, empty):
    found = surveyed([text])
    if empty == "validation" and int(3 * (1 - fraction)) < 3:
        fraction = 1e-17  # 1 - fraction rounds to 1
    with pytest.raises(SourceError, match=f"the {empty} split is empty"):
        check_split(found, fraction)


def test_no_documents_at_all_is_refused():
    with pytest.raises(SourceError, match="holds no text"):
        check_split(surveyed([]), 0.1)


def test_the_corpus_hash_knows_where_documents_begin():
    hashes = [surveyed(texts).sha256 for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])]
    assert len(set(hashes)) == 4


def test_half_a_surrogate_pair_is_named():
    with pytest.raises(SourceError, match="page 3 has half a surrogate pair at character 2"):
        document_bytes(Document("page 3", "ab\ud800"))
