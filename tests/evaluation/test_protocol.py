"""What a fingerprint hangs on, which figures may meet, and how results are saved."""

import dataclasses
import json

import pytest
from evaluation.slow_oracle import conditions, decoder, small_corpus, subject

from atomiclm.comparison.runs import differences
from atomiclm.data import Copy, Markov
from atomiclm.evaluation import (
    BitsPerByte,
    ByPosition,
    Described,
    EvaluationResult,
    Induction,
    LengthExtrapolation,
    Measured,
    Recall,
    Sliding,
    read_evaluations,
)
from atomiclm.evaluation.results import result_path
from atomiclm.run_evaluation import validation_row

ALL = (BitsPerByte(), Sliding(3), ByPosition(), LengthExtrapolation((1, 2)), Induction(4, (5,), 3), Recall())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def other_corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("cache"), Markov(num_documents=15, document_bytes=33, seed=4))


@pytest.mark.parametrize(
    ("one", "other", "setting"),
    [
        (Sliding(2), Sliding(3), "stride"),
        (LengthExtrapolation((1, 2)), LengthExtrapolation((1, 4)), "lengths"),
        (Induction(4, (5,)), Induction(5, (5,)), "string_tokens"),
        (Induction(4, (5,)), Induction(4, (6,)), "distances"),
        (Induction(4, (5,), 3), Induction(4, (5,), 4), "num_strings"),
        (Induction(4, (5,), seed=1), Induction(4, (5,), seed=2), "seed"),
    ],
)
def test_every_setting_is_in_the_fingerprint_and_must_agree(corpus, one, other, setting):
    here, there = one.describe(conditions(corpus)), other.describe(conditions(corpus))
    assert here.facts() != there.facts()
    assert here.comparability != there.comparability
    (difference,) = differences(here.facts(), there.facts())
    assert difference.startswith(f"{setting}: ")
    again = type(one)(**vars(one)).describe(conditions(corpus))
    assert (again.facts(), again.comparability) == (here.facts(), here.comparability)
    assert differences(here.facts(), again.facts()) == []


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_the_text_is_in_every_fingerprint_and_must_agree(corpus, other_corpus, protocol):
    here, there = (protocol.describe(conditions(each)) for each in (corpus, other_corpus))
    assert here.facts() != there.facts()
    shas = [each.manifest["validation_sha256"][:12] for each in (corpus, other_corpus)]
    assert f"validation bytes: {shas[0]} against {shas[1]}" in differences(here.facts(), there.facts())


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_documents_apart_must_agree_but_where_none_are_ever_apart(corpus, protocol):
    here, there = (protocol.describe(conditions(corpus, separate)) for separate in (False, True))
    expected = [] if protocol.name == "induction" else ["documents apart: False against True"]
    assert differences(here.facts(), there.facts()) == expected
    assert (here.facts() == there.facts()) is (expected == [])


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize(("name", "value"), [("context_length", 16), ("precision", "bfloat16")])
def test_what_belongs_to_an_arm_is_recorded_and_not_refused(corpus, protocol, name, value):
    here = protocol.describe(conditions(corpus))
    there = protocol.describe(dataclasses.replace(conditions(corpus), **{name: value}))
    if protocol.name == "length_extrapolation" and name == "context_length":
        assert here.facts() == there.facts()  # its windows are of none of the model's own context
        return
    assert here.facts() != there.facts()
    assert here.comparability == there.comparability
    assert differences(here.facts(), there.facts()) == []
    assert there.recorded[name] == value != here.recorded[name]


def test_targets_beyond_the_context_hang_on_the_context_trained_on(corpus):
    protocol = LengthExtrapolation((1, 2))
    there = protocol.describe(dataclasses.replace(conditions(corpus), trained_length=16))
    assert differences(protocol.describe(conditions(corpus)).facts(), there.facts()) == ["trained_length: 8 against 16"]


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_another_tokenizer_matters_only_where_tokens_are_counted(corpus, protocol):
    described = protocol.describe(conditions(corpus))
    half = "compared" if "tokenizer_sha256" in described.compared else "recorded"
    facts = json.loads(json.dumps(described.facts()))
    facts[half]["tokenizer_sha256"] = "0" * 64
    counted = protocol.name in ("by_position", "length_extrapolation", "induction")
    differing = [line.split(":")[0] for line in differences(described.facts(), facts)]
    assert differing == (["tokenizer"] if counted else [])
    assert ("tokenizer_sha256" in described.recorded) is not counted


def test_protocols_never_meet(corpus):
    all_of_them = [protocol.describe(conditions(corpus)) for protocol in ALL]
    assert len({described.comparability for described in all_of_them}) == len(ALL)
    assert differences(all_of_them[0].facts(), all_of_them[1].facts()) == ["protocol: bits_per_byte against sliding"]


def test_batch_size_and_device_are_no_part_of_it(corpus):
    names = {key for protocol in ALL for half in protocol.describe(conditions(corpus)).facts().values() for key in half}
    assert not {"batch_size", "tokens_per_batch", "device"} & names


def test_a_description_survives_a_summary(corpus):
    for protocol in ALL:
        described = protocol.describe(conditions(corpus))
        again = Described.from_facts(json.loads(json.dumps(described.facts())))
        assert again == described
        assert again.facts() == described.facts()
    with pytest.raises(ValueError, match="not the description of a protocol"):
        Described.from_facts({"protocol": "sliding"})


@pytest.mark.parametrize("separate", [False, True])
def test_a_runs_own_validation_names_the_protocol_that_it_is_of(corpus, separate):
    row = validation_row(subject(decoder()), conditions(corpus, separate))
    assert row["validation/protocol"] == BitsPerByte().describe(conditions(corpus, separate)).comparability


def test_a_source_of_a_mixture_is_named_where_its_bytes_differ():
    whole = Described("bits_per_byte", {"validation_sha256": "a" * 64}, {})
    part = Described("bits_per_byte", {"validation_sha256": "b" * 64}, {"source": "python"})
    assert differences(whole.facts(), part.facts()) == [
        "validation bytes: aaaaaaaaaaaa against bbbbbbbbbbbb (source python)"
    ]


# Results on disk.


def result(corpus, protocol=BitsPerByte(), checkpoint="step_00000010", model=None, value=1.25):  # noqa: B008
    described = protocol.describe(conditions(corpus))
    return EvaluationResult(described, checkpoint, checkpoint * 4, model or {}, Measured({"loss": value}))


def keep(run, found):
    path = result_path(run, found.protocol, found.weights_sha256, found.model)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(found.to_json())
    return path


def test_saved_results_are_read_back_as_they_were(corpus, tmp_path):
    measured = [protocol.measure(subject(decoder()), conditions(corpus)) for protocol in ALL[:4]]
    found = [
        EvaluationResult(
            protocol.describe(conditions(corpus)), "step_00000007", "f" * 64, {"position.factor": 2.0}, one
        )
        for protocol, one in zip(ALL, measured, strict=False)
    ]
    for one in found:
        keep(tmp_path, one)
        assert one.step == 7
    again = read_evaluations(tmp_path)
    assert [one.protocol.name for one in again] == sorted(one.protocol.name for one in found)
    for one in again:
        (same,) = [each for each in found if each.protocol == one.protocol]
        assert one.to_json() == same.to_json()
        assert one.measured.figures == same.measured.figures


def test_another_question_is_another_file_and_the_same_question_the_same(corpus, tmp_path):
    questions = [
        result(corpus),
        result(corpus, Sliding(3)),
        result(corpus, Sliding(4)),
        result(corpus, checkpoint="step_00000020"),
        result(corpus, model={"position.factor": 2.0}),
        result(corpus, model={"position.factor": 4.0}),
    ]
    paths = {keep(tmp_path, one) for one in questions}
    assert len(paths) == len(questions)
    assert keep(tmp_path, result(corpus, value=2.0)) in paths
    assert len(read_evaluations(tmp_path)) == len(questions)
    assert all(path.name.startswith(("bits_per_byte-", "sliding-")) for path in paths)


def test_a_run_without_evaluations_has_none(tmp_path):
    assert read_evaluations(tmp_path) == []
    assert read_evaluations(tmp_path / "nowhere") == []


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"protocol": "sliding", "figures": {}}'])
def test_a_damaged_result_is_named(corpus, tmp_path, damage):
    path = keep(tmp_path, result(corpus))
    path.write_text(damage)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*evaluate --save writes it again"):
        read_evaluations(tmp_path)


def test_figures_that_are_not_finite_are_not_saved(corpus):
    with pytest.raises(ArithmeticError, match="loss came out NaN or infinite"):
        result(corpus, value=float("nan")).to_json()


def test_recall_of_a_source_with_answers_is_described_like_the_rest(tmp_path):
    copies = small_corpus(tmp_path, Copy(num_documents=60, min_length=1, max_length=3))
    assert Recall().describe(conditions(copies)).compared["validation_sha256"] == copies.manifest["validation_sha256"]
