"""The record on disk: what is written is what is read, and a kill costs at most the row it hit."""

import json
import math
import resource
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomiclm.atomic_io import from_json, to_json
from atomiclm.cli import UserError
from atomiclm.tracking import Record, read_metrics, read_summary, write_summary


def row(step, event="train", **values):
    return {"event": event, "step": step, "tokens": step * 64, "seconds": step * 0.5, "flops": 1e9 * step, **values}


def write(path, rows):
    with Record(path) as record:
        for each in rows:
            record.append(each)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "non_finite"), inner),
    max_leaves=8,
)


@given(values)
def test_reading_is_the_inverse_of_writing(value):
    data = to_json(value)
    assert from_json(data) == value
    assert b"\n" not in data
    json.loads(data.decode(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_numbers_that_are_not_finite_and_texts_that_look_like_them(tmp_path):
    write(tmp_path / "m", [row(1, **{"train/loss": math.nan, "x": [math.inf, -math.inf], "text": "NaN"})])
    (read,) = read_metrics(tmp_path / "m")
    assert math.isnan(read["train/loss"])
    assert read["x"] == [math.inf, -math.inf]
    assert read["text"] == "NaN"


def test_a_row_is_on_disk_before_append_returns(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    record = Record(path)
    for step in (1, 2):
        record.append(row(step))
        assert [each["step"] for each in read_metrics(path)] == list(range(1, step + 1))
    record.close()


def test_rows_can_be_read_by_event_and_a_run_without_rows_has_none(tmp_path):
    write(tmp_path / "m", [row(1), row(1, "validation"), row(2)])
    assert [each["step"] for each in read_metrics(tmp_path / "m", "train")] == [1, 2]
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "none")


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path, cut):
    path = tmp_path / "m"
    write(path, [row(1), row(2, text="größer")])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [each["step"] for each in read_metrics(path)] == [1]
    write(path, [row(3)])
    assert [each["step"] for each in read_metrics(path)] == [1, 3]


def test_a_torn_line_is_cut_off_where_it_is_the_only_one(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1)])
    path.write_bytes(path.read_bytes()[:-2])
    write(path, [row(2)])
    assert [each["step"] for each in read_metrics(path)] == [2]


def test_a_last_line_of_zeros_is_torn_too(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1)])
    path.write_bytes(path.read_bytes() + b"\0" * 40 + b"\n")
    assert len(read_metrics(path)) == 1


def test_damage_elsewhere_is_an_error_that_names_the_line(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1), row(2), row(3)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"event": "tra\n' + lines[2])
    with pytest.raises(ValueError, match="line 2 of 3 is damaged"):
        read_metrics(path)
    with Record(path) as record:
        assert record.rows == 1
        assert "line 2 of 3" in str(record.damage)
        with pytest.raises(ValueError, match="line 2 of 3"):
            record.truncate(rows=2)
        assert path.read_bytes().splitlines(keepends=True)[2] == lines[2], "what is refused is left as it was"
        record.truncate(rows=1)  # it came after the checkpoint
        record.append(row(2))
    assert [each["step"] for each in read_metrics(path)] == [1, 2]


def test_truncate_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1), row(2), row(2, "validation"), row(3), row(4)])
    path.write_bytes(path.read_bytes() + b'{"event": "train", "st')
    with Record(path) as record:
        assert record.rows == 5
        record.truncate(rows=3)
        assert record.rows == 3
        assert [each["step"] for each in read_metrics(path)] == [1, 2, 2]
        record.append(row(3, again=True))
    assert [each["step"] for each in read_metrics(path)] == [1, 2, 2, 3]
    assert read_metrics(path)[-1]["again"]
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_rows_of_checkpoints_are_not_counted_and_stay_with_what_came_before_them(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1), row(1, "checkpoint"), row(2), row(2, "checkpoint"), row(3)])
    with Record(path) as record:
        assert record.rows == 3
        record.truncate(rows=2)
    assert [each["event"] for each in read_metrics(path)] == ["train", "checkpoint", "train", "checkpoint"]


def test_a_rewound_run_has_steps_twice_and_is_cut_by_rows_not_by_steps(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1), row(2), row(3), row(2, "bad_step"), row(2), row(3)])
    with Record(path) as record:
        record.truncate(rows=5)
    assert [each["step"] for each in read_metrics(path)] == [1, 2, 3, 2, 2]


def test_a_row_that_the_disk_does_not_take_leaves_no_torn_line(tmp_path):
    """A file size limit stands for a full disk: the system takes the first bytes of the row and refuses the rest."""
    path = tmp_path / "m"
    write(path, [row(1)])
    size = path.stat().st_size
    with Record(path) as record:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        try:
            with pytest.raises(OSError, match=r"too large|No space"):
                record.append(row(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.stat().st_size == size
        assert record.rows == 1
        record.append(row(2))
    assert [each["step"] for each in read_metrics(path)] == [1, 2]


def test_truncating_nothing_leaves_the_file_alone(tmp_path):
    path = tmp_path / "m"
    write(path, [row(1)])
    before = path.stat().st_ino, path.read_bytes()
    with Record(path) as record:
        record.truncate(rows=1)
    assert (path.stat().st_ino, path.read_bytes()) == before


def test_a_truncation_that_is_interrupted_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    write(path, [row(1), row(2)])
    before = path.read_bytes()
    record = Record(path)

    def power_cut(*arguments):
        raise OSError("power cut")

    monkeypatch.setattr("os.fsync", power_cut)
    with pytest.raises(OSError, match="power cut"):
        record.truncate(rows=1)
    assert path.read_bytes() == before


def test_a_row_without_an_axis_is_our_own_mistake(tmp_path):
    with Record(tmp_path / "m") as record:
        with pytest.raises(AssertionError, match="tokens"):
            record.append({"event": "train", "step": 1})
        with pytest.raises(AssertionError, match="event"):
            record.append({"step": 1, "tokens": 1, "seconds": 1.0, "flops": 1.0})


def test_summary_round_trip_and_damage(tmp_path):
    path = tmp_path / "run" / "summary.json"
    write_summary(path, {"state": "diverged", "validation/loss": math.nan, "anchors": {"bigram": 3.5}})
    read = read_summary(path)
    assert math.isnan(read["validation/loss"])
    assert read["anchors"] == {"bigram": 3.5}
    path.write_text('{"state": "do')
    with pytest.raises(UserError, match=r"summary.json: not JSON .Unterminated"):
        read_summary(path)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"summary.json: not a JSON object"):
        read_summary(path)
