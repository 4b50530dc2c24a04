"""The prompt loop: what is typed, what is drawn, and what is answered (in a terminal: test_generate_and_inspect.py)."""

import pytest

from atomiclm.cli import UserError
from atomiclm.generate import SETTINGS
from atomiclm.generation import Settings, converse


@pytest.fixture
def loop(monkeypatch):
    """A function that types lines into a loop, and returns what was drawn: (prompt, settings)."""

    def typed(*lines, interrupt=()):
        source, drawn = iter(lines), []

        def read(_):
            line = next(source, EOFError)
            if isinstance(line, str):
                return line
            raise line

        def draw(prompt, settings):
            drawn.append((prompt, settings))
            if prompt in interrupt:
                raise KeyboardInterrupt

        monkeypatch.setattr("builtins.input", read)
        converse(draw, Settings(), SETTINGS)
        return drawn

    return typed


def test_prompts_are_drawn_under_one_seed_after_another(loop):
    drawn = loop("one", "", "/samples 3", "two", "three", "/seed 1", "one")
    assert [prompt for prompt, _ in drawn] == ["one", "one", "two", "three", "one"]
    assert [settings.seed for _, settings in drawn] == [1, 2, 3, 6, 1]


def test_lines_between_quotes_are_one_prompt(loop):
    assert [prompt for prompt, _ in loop('"""', "/not a setting", "", "  two", '"""', "end")] == [
        "/not a setting\n\n  two",
        "end",
    ]
    assert [prompt for prompt, _ in loop('"""', "dropped", KeyboardInterrupt, "next")] == ["next"]


def test_settings_are_changed_shown_and_switched_off(loop, capsys):
    changes = ("/temperature 0.5", "/top-k 40", "/top_p 0.9", "/min_p 0.1", "/max_tokens 7", "/alternatives 5")
    ((_, settings),) = loop(*changes, "/top_k off", "/top_p", "x")
    assert settings == Settings(0.5, None, 0.9, 0.1, max_tokens=7, alternatives=5)
    assert "/top_k off" in capsys.readouterr().out
    loop("/help")
    shown = capsys.readouterr().out
    assert all(f"  /{name} " in shown for name in SETTINGS)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/temprature 0.5", "no setting /temprature; did you mean /temperature?"),
        ("/home/me", 'goes between lines of """'),
        ("/", "no setting /"),
        ("/temperature hot", "/temperature: 'hot' is not a number"),
        ("/temperature off", "'off' is not a number"),
        ("/temperature -1", "temperature=-1.0 must be 0"),
        ("/temperature nan", "temperature=nan must be 0"),
        ("/top_k 1.5", "'1.5' is not a whole number"),
        ("/top_p 2", "top_p=2.0 must be above 0"),
        ("/max_tokens -3", "max_tokens=-3 must be 0 or more"),
    ],
)
def test_a_mistake_is_answered_and_changes_nothing(loop, capsys, line, answer):
    assert loop(line, "x") == [("x", Settings())]
    assert answer in capsys.readouterr().err


def test_ctrl_c_stops_a_text_and_at_the_prompt_the_loop(loop):
    drawn = loop("stopped", "goes on", KeyboardInterrupt, "never", interrupt={"stopped"})
    assert [prompt for prompt, _ in drawn] == ["stopped", "goes on"]
    assert loop("/quit", "never") == []


def test_what_the_model_refuses_is_answered(monkeypatch, capsys):
    def draw(prompt, settings):
        raise UserError("the model's scores are not finite")

    lines = iter(["x"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines, None) or (_ for _ in ()).throw(EOFError))
    converse(draw, Settings(), SETTINGS)
    assert "not finite" in capsys.readouterr().err
