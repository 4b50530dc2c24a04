"""No text that a study reports on is ever seen while its settings are chosen."""

import pytest

from atomiclm.data import AssociativeRecall, DevSplit, Document, Mixture, TextFiles, TextSource, prepare
from atomiclm.data.prepare import corpus_sha256
from atomiclm.data.source import document_bytes, split_document, survey

TEXTS = [f"text {number} " + "word " * (number % 7) for number in range(300)]


class Texts(TextSource):
    """Documents from a list."""

    def __init__(self, texts, validation_fraction=0.3, left_out=0):
        super().__init__(validation_fraction)
        self.texts = texts
        self.passed_over = left_out

    def source_faults(self):
        return [] if self.texts else [("texts", "there are none")]

    def documents(self):
        for number, text in enumerate(self.texts):
            yield Document(f"text {number}", text)
        self.left_out = self.passed_over

    def stamp(self):
        return f"{len(self.texts)} texts"

    def anchors(self):
        return {"known": 1.5}

    def describe(self):
        return "texts"


def _split(source):
    """The train and the validation text of a source, as `prepare` splits it."""
    found = survey(source, lambda num_bytes: None)
    parts = {"train": [], "validation": []}
    for one in source.documents():
        for split, text in split_document(one, document_bytes(one), found, source.validation_fraction):
            parts[split].append(text)
    return parts["train"], parts["validation"]


@pytest.mark.parametrize("taken", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("fraction", [0.04, 0.5])
def test_of_many_documents_the_dev_split_is_of_the_training_ones_and_all_are_accounted_for(taken, fraction):
    source = Texts(TEXTS, taken)
    train, validation = _split(source)
    dev_train, dev_validation = _split(DevSplit(source, fraction))
    assert sorted(dev_train + dev_validation) == sorted(train)
    assert not set(dev_train + dev_validation) & set(validation)
    assert sorted([*dev_train, *dev_validation, *validation]) == sorted(TEXTS)
    expected = fraction * len(train)
    assert abs(len(dev_validation) - expected) < 4 * expected**0.5 + 1, "about the share that was asked for"


def test_of_a_document_alone_the_validation_text_is_cut_off_first():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    source = Texts([text], 0.1)
    (train,), (validation,) = _split(source)
    (dev_train,), (dev_validation,) = _split(DevSplit(source, 0.04))
    assert dev_train + dev_validation == train
    assert train + validation == text
    assert len(dev_validation) > 0.04 * len(train)


def test_two_documents_of_which_one_is_held_out_leave_one_without_it():
    source = next(
        found
        for number in range(50)
        if len(_split(found := Texts([f"one {number} " * 30, f"two {number} " * 30], 0.5))[1]) == 1
    )
    train, validation = _split(source)
    dev_train, dev_validation = _split(DevSplit(source, 0.2))
    assert [dev_train[0] + dev_validation[0]] == train
    assert validation[0] not in train[0]


def test_each_source_of_a_mixture_keeps_its_own_validation_text_out():
    sources = {"a": Texts(TEXTS[:150], 0.2), "b": Texts(TEXTS[150:], 0.4)}
    mixture = Mixture({name: DevSplit(one) for name, one in sources.items()}, {"a": 1.0, "b": 1.0})
    for part, source in zip(mixture.parts(), sources.values(), strict=True):
        dev_train, dev_validation = _split(part.source)
        assert sorted(dev_train + dev_validation) == sorted(_split(source)[0])


def test_documents_keep_their_answers():
    source = AssociativeRecall(num_documents=200, validation_fraction=0.3)
    dev = DevSplit(source, 0.2)
    assert (dev.has_answers, dev.answers_only) == (source.has_answers, source.answers_only)
    there = {one.text: one.answers for one in source.documents()}
    documents = list(dev.documents())
    assert 0 < len(documents) < 200
    assert all(one.answers and one.answers == there[one.text] for one in documents)


def test_the_stamp_changes_with_the_source_and_with_either_fraction():
    stamps = {
        dev.stamp()
        for dev in (
            DevSplit(Texts(TEXTS, 0.3)), DevSplit(Texts(TEXTS, 0.2)), DevSplit(Texts(TEXTS, 0.3), 0.5),
            DevSplit(Texts(TEXTS[1:], 0.3)),
        )
    }  # fmt: skip
    assert len({*stamps, Texts(TEXTS, 0.3).stamp()}) == 5


def test_a_source_without_a_stamp_has_none_here():
    source = Texts(TEXTS)
    source.stamp = lambda: None
    assert DevSplit(source).stamp() is None


def test_faults_anchors_and_what_was_left_out_are_the_sources():
    dev = DevSplit(Texts([], 0.3))
    assert dev.faults() == [("source.texts", "there are none")]
    assert DevSplit(Texts(TEXTS, 2.0)).faults()[-1][0] == "source.validation_fraction"
    dev = DevSplit(Texts(TEXTS, 0.3, left_out=4))
    list(dev.documents())
    assert dev.left_out == 4
    assert dev.anchors() == {"known": 1.5}
    assert "texts" in dev.describe()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_fraction_outside_zero_and_one_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction=.* strictly between 0 and 1"):
        DevSplit(Texts(TEXTS), fraction)


def test_prepared_shards_and_the_tokenizers_text_hold_none_of_the_validation_text(
    corpus_folder, byte_tokenizer, tmp_path
):
    source = TextFiles(str(corpus_folder), 0.3)
    plain = prepare(source, byte_tokenizer(), tmp_path / "cache")
    dev = prepare(DevSplit(source, 0.3), byte_tokenizer(), tmp_path / "cache")
    heads = [path.read_bytes().splitlines(keepends=True)[0] for path in corpus_folder.iterdir()]  # all different
    held_out = [head for head in heads if head in plain.raw_bytes("validation")]
    assert len(held_out) >= 5
    everything = dev.raw_bytes("train") + dev.raw_bytes("validation")
    for head in held_out:
        assert head not in everything
        assert head.decode() not in dev.tokenizer.trained_on
    assert dev.train.num_bytes + dev.validation.num_bytes == plain.train.num_bytes
    assert dev.validation.num_bytes > 0
    assert dev.manifest["corpus_sha256"] != plain.manifest["corpus_sha256"]
    assert corpus_sha256(DevSplit(source, 0.3), tmp_path / "cache") == dev.manifest["corpus_sha256"]
