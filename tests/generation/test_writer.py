"""Texts from prompts: what is noted of each against torch, and batches against texts drawn alone."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from atomiclm.generation import Settings, Writer, table_of
from atomiclm.model import Decoder, NormalInit
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer

PROMPTS = ["the cat sat", "", "a", "the mat and the cat and the", "the cat sat"]


@pytest.fixture(scope="module")
def writer():
    tokenizer = BasicTokenizer(vocab_size=280)
    tokenizer.train("the cat sat on the mat and the cat ate the rat that sat on the mat " * 20)
    model = Decoder(
        vocab_size=300, dim=32, num_layers=2, context_length=64, init=NormalInit(seed=1, std=0.4), tie_embeddings=False
    )
    return Writer(model.double(), tokenizer)


def next_scores(writer, text):
    """Scores of each token of a text, from one pass over the prompt and the text."""
    prompt = writer.encode(text.prompt)
    with torch.no_grad():
        return writer.model(torch.tensor([prompt + text.tokens]))[0, len(prompt) - 1 : -1]


@pytest.mark.parametrize("settings", [Settings(max_tokens=20), Settings(1.3, 40, 0.9, 0.01, max_tokens=90)])
def test_a_batch_writes_what_each_prompt_gets_alone(writer, settings):
    """The second goes past the context, each row at a step of its own."""
    seeds = [1, 1, 5, 2, 2]
    together = writer.write(PROMPTS, seeds, settings)
    for prompt, seed, text in zip(PROMPTS, seeds, together, strict=True):
        (alone,) = writer.write([prompt], [seed], settings)
        assert text == replace(alone, log_probability=pytest.approx(alone.log_probability))
    assert len({text.text for text in together}) == len(PROMPTS)
    assert writer.write(PROMPTS[::-1], seeds[::-1], settings)[0].text == together[-1].text


def test_log_probability_is_the_models_cross_entropy(writer):
    for text in writer.write(PROMPTS, [3] * 5, Settings(0.5, top_k=5, max_tokens=20)):
        loss = cross_entropy(next_scores(writer, text), torch.tensor(text.tokens), reduction="sum")
        assert text.log_probability == pytest.approx(-loss.item())


def test_alternatives_are_the_softmax_before_and_after_filters(writer):
    settings = Settings(temperature=0.7, top_k=3, max_tokens=20, alternatives=5)
    (text,) = writer.write(["the cat"], [1], settings)
    scores = next_scores(writer, text)
    assert len(text.choices) == 20
    for choice, row in zip(text.choices, scores, strict=True):
        model = row.softmax(-1)
        assert [each.token for each in choice.alternatives] == row.argsort(descending=True)[:5].tolist()
        assert [each.model for each in choice.alternatives] == pytest.approx(model.topk(5).values.tolist())
        allowed = row[: writer.tokenizer.vocab_size] / 0.7  # the model has rows without a token, which are never drawn
        likeliest = allowed.topk(3)
        drawn = dict(zip(likeliest.indices.tolist(), likeliest.values.softmax(-1).tolist(), strict=True))
        assert [each.drawn for each in choice.alternatives] == pytest.approx(
            [drawn.get(each.token, 0.0) for each in choice.alternatives]
        )
        assert (choice.model, choice.drawn) == pytest.approx((model[choice.token].item(), drawn[choice.token]))
    assert [choice.token for choice in text.choices] == text.tokens


def test_the_likeliest_token_is_certain_at_temperature_zero(writer):
    size = writer.tokenizer.vocab_size
    (text,) = writer.write(["the"], [1], Settings(temperature=0, max_tokens=8, alternatives=300))
    for choice in text.choices:
        assert choice.drawn == 1.0
        assert sum(each.drawn for each in choice.alternatives) == 1.0
        assert choice.model == max(each.model for each in choice.alternatives if each.token < size)


def test_what_is_streamed_is_the_text_and_its_end_has_a_reason(writer):
    """Of the seeds up to 60, some end the document and others are cut off."""
    pieces, stops = [], {}
    settings = Settings(2.0, max_tokens=40)
    (text,) = writer.write(["the"], [3], settings, pieces.append)
    assert "".join(pieces) == text.text
    assert len(pieces) > 10
    for text in writer.write(["the"] * 60, range(60), settings):
        assert text.text == writer.tokenizer.decode(text.tokens)
        assert END_OF_TEXT not in text.text
        stops.setdefault(text.stop, []).append(len(text.tokens))
    assert stops.keys() == {"end_of_text", "max_tokens"}
    assert set(stops["max_tokens"]) == {40}
    assert max(stops["end_of_text"]) < 40


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("top_k", 0), ("top_p", 1.5), ("min_p", -0.1), ("max_tokens", -1), ("samples", 0),
     ("alternatives", -1)],
)  # fmt: skip
def test_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Settings(**{name: value})


def test_the_table_shows_what_would_steer_a_terminal_as_text(writer):
    from rich.console import Console

    (text,) = writer.write(["the"], [1], Settings(max_tokens=3, alternatives=300))
    console = Console(width=60)
    with console.capture() as captured:
        console.print(table_of(text.choices))
    assert "'\\x1b'=" in captured.get()
    assert "\x1b" not in captured.get()
