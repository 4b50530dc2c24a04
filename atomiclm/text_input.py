"""Text that a command is given in a file or on standard input, and prompts in it."""

import json
import sys
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError, say_if_slow


def read_text(file: str, flag: str) -> str:
    """The UTF-8 text of a file, or of standard input where it is "-"; UserError: it cannot be read, or is not UTF-8."""
    try:
        is_typed = file == "-" and sys.stdin.isatty()
        with (
            say_if_slow("reading standard input, up to its end (Ctrl-D)", quiet=not is_typed),
            open(0 if file == "-" else Path(file), "rb", closefd=file != "-") as stream,
        ):
            data = stream.read()
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise UserError(f"{flag} {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {file}: not UTF-8 from byte {error.start} on; give text in UTF-8") from error


def parse_prompts(text: str, source: str) -> list[str]:
    """One prompt a line, blank lines left out; or JSON lines with a "prompt" in each, where the first is an object."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{source}: no prompts in it; give one per line")
    if _json_object(lines[0][1]) is None:
        return [line for _, line in lines]
    prompts = []
    for number, line in lines:
        prompt = (_json_object(line) or {}).get("prompt")
        if not isinstance(prompt, str):
            fix = "the first line is JSON, so every line must be" if number > lines[0][0] else "give one in each line"
            raise UserError(f'{source}, line {number}: no JSON object with a text "prompt"; {fix}')
        prompts.append(prompt)
    return prompts


def _json_object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
