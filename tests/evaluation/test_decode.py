"""What decoding costs: the figures that no clock decides, and what two measurements must have in common."""

import torch
from evaluation.slow_oracle import CPU, conditions, decoder, small_corpus, subject

from atomiclm.evaluation import Decode
from atomiclm.model import LearnedPosition


def test_every_batch_and_context_is_measured(tmp_path):
    model = decoder()
    protocol = Decode(CPU, "a CPU", batch_sizes=(1, 3), contexts=(4, 8), steps=3)
    figures = protocol.measure(subject(model), conditions(small_corpus(tmp_path))).figures
    shapes = ["1x4", "3x4", "1x8", "3x8"]
    for kind in ("prefill_ms", "ms_per_token", "cache_bytes", "bandwidth_used"):
        assert [name for name in figures if name.startswith(f"{kind}/")] == [f"{kind}/{shape}" for shape in shapes]
    for shape in shapes:
        rows, context = map(int, shape.split("x"))
        assert figures[f"cache_bytes/{shape}"] == rows * model.cache_bytes(context, bytes_per_element=4)
    assert figures["ms_per_token"] == figures["ms_per_token/1x8"]
    rate = 1e9 * figures["gigabytes_per_second"]
    read = 4 * model.num_parameters() + figures["cache_bytes/3x8"]
    used = read / (figures["ms_per_token/3x8"] / 1e3) / rate
    assert abs(figures["bandwidth_used/3x8"] / used - 1) < 1e-9


def test_it_runs_as_generate_does(tmp_path):
    """A prefill of the context less the steps, then one token of each row at a time."""
    model, shapes = decoder(), []
    model.embedding.register_forward_hook(lambda module, arguments, output: shapes.append(tuple(arguments[0].shape)))
    Decode(CPU, "a CPU", batch_sizes=(2,), contexts=(8,), steps=3).measure(
        subject(model), conditions(small_corpus(tmp_path))
    )
    assert shapes[1:] == [(2, 5), (2, 1), (2, 1), (2, 1)]


def test_a_table_that_is_no_head_is_not_read(tmp_path):
    corpus, read = small_corpus(tmp_path), []
    for tied in (True, False):
        figures = (
            Decode(CPU, "a CPU", (1,), (4,), 2)
            .measure(subject(decoder(tie_embeddings=tied)), conditions(corpus))
            .figures
        )
        read.append(figures["bandwidth_used/1x4"] * figures["gigabytes_per_second"] * figures["ms_per_token"])
    assert abs(read[0] / read[1] - 1) < 1e-6


def test_what_the_positions_do_not_allow_is_noted(tmp_path):
    protocol = Decode(CPU, "a CPU", batch_sizes=(1,), contexts=(4, 99), steps=2)
    measured = protocol.measure(subject(decoder(position=LearnedPosition)), conditions(small_corpus(tmp_path)))
    assert [name for name in measured.figures if "/" in name and "99" in name] == []
    (note,) = measured.notes
    assert note.startswith("a context of 99: LearnedPosition has")


def test_figures_of_other_threads_do_not_meet(tmp_path):
    here = conditions(small_corpus(tmp_path))
    one = Decode(CPU, "a CPU").describe(here)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        other = Decode(CPU, "a CPU").describe(here)
    finally:
        torch.set_num_threads(threads)
    assert one.comparability != other.comparability
    assert one.comparability == Decode(CPU, "a CPU").describe(here).comparability
