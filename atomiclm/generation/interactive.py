"""The prompt loop: one prompt or one setting after another, until Ctrl-D."""

import difflib
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from atomiclm.cli import UserError, from_user
from atomiclm.generation.writer import Settings

type Kinds = Mapping[str, tuple[type[int] | type[float], str]]
"""Each setting's type, and what it does."""

_HINT = "Type a prompt; /help shows the settings, Ctrl-C stops a text, Ctrl-D leaves."

_HELP = """\
A prompt is continued. An empty line continues the last prompt once more, under the next seed.
  \"\"\"              alone on a line: begins a prompt of several lines, and ends it
  /NAME            shows a setting
  /NAME VALUE      changes it; "off" switches top_k, top_p and min_p off
  /help  /quit     this text; leave, as Ctrl-D does, and Ctrl-C at the prompt"""


def converse(draw: Callable[[str, Settings], None], settings: Settings, kinds: Kinds) -> None:
    """``draw`` each prompt that is typed, until the end of standard input, Ctrl-C at the prompt, or /quit.

    Ctrl-C while a text is drawn stops that text. The seed moves on after each prompt, so that the next texts differ.
    A mistake is answered, and the loop goes on.
    """
    print(_HINT)
    with suppress(ImportError):  # of a Python without it
        import readline  # noqa: F401 - from here on input() has line editing and a history
    last = ""
    while True:
        try:
            line = input("> ")
            if line.strip() == '"""':
                line = _several_lines()
            elif line.startswith("/"):
                if line.split()[0] == "/quit":
                    return
                settings = _obey(line, settings, kinds)
                continue
        except UnicodeDecodeError:
            print("that was not UTF-8; type it again", file=sys.stderr)
            continue
        except (EOFError, KeyboardInterrupt):
            print()
            return
        except UserError as error:
            print(error, file=sys.stderr)
            continue
        last = line or last
        try:
            draw(last, settings)
        except KeyboardInterrupt:
            print()
        except UserError as error:
            print(error, file=sys.stderr)
        settings = replace(settings, seed=settings.seed + settings.samples)


def _several_lines() -> str:
    lines: list[str] = []
    try:
        while (line := input('""" ')).strip() != '"""':
            lines.append(line)
    except KeyboardInterrupt:
        raise UserError("\nthis prompt is dropped") from None
    return "\n".join(lines)


def _obey(line: str, settings: Settings, kinds: Kinds) -> Settings:
    """Act on a line that begins with a slash; returns the settings from now on."""
    name, value = (*line[1:].split(maxsplit=1), "", "")[:2]
    name, value = name.replace("-", "_"), value.strip()
    if name == "help":
        print(_HELP)
    elif name not in kinds:
        close = difflib.get_close_matches(name, [*kinds, "help", "quit"], n=1)
        fix = f"did you mean /{close[0]}?" if close else "/help shows the settings"
        raise UserError(f'no setting /{name}; {fix} (a prompt that begins with / goes between lines of """)')
    elif value:
        with from_user():
            changed: dict[str, Any] = {name: _value(name, value, kinds[name][0])}
            settings = replace(settings, **changed)
    for each in kinds if name == "help" else [name]:
        current = getattr(settings, each)
        print(f"  /{each} {'off' if current is None else current}".ljust(22), kinds[each][1])
    return settings


def _value(name: str, text: str, kind: type[int] | type[float]) -> float | None:
    if text == "off" and getattr(Settings, name) is None:  # its default
        return None
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UserError(f"/{name}: {text!r} is not {wanted}") from None
