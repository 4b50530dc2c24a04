"""Around every command: a user's mistake, the streams it prints to, and how an end is reported that is not its own."""

import argparse
import contextlib
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn, TextIO

from atomiclm import __version__

VERSION = f"atomiclm {__version__}"
"""What `--version` prints, of every command."""

type Main = Callable[[Sequence[str] | None], int]


class UserError(ValueError):
    """Something that the user gave is wrong: a flag, a setting, a file, a run folder. The message says how to mend it.

    Commands print the message alone and end with exit status 2. Any other ValueError that reaches a command is a fault
    of the program, and keeps its traceback. A constructor, which does not know who gave its arguments, raises a plain
    ValueError; whoever passes on what a user gave does so in `from_user`.
    """


@contextmanager
def from_user() -> Iterator[None]:
    """Around constructors that get what a user gave, and nothing else: what they refuse is the user's mistake."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


def command(name: str) -> Callable[[Main], Callable[..., int]]:
    """Make of a function a command that acts on what is there.

    Its exit status is what the function returns; 0 if its reader has seen enough (`| head`); 1 if what it prints, or a
    file, cannot be written; 2 after a mistake of the user's; 130 after Ctrl-C.
    """

    def decorated(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            mend_streams()
            try:
                status = main(argv)
                sys.stdout.flush()
                return status
            except KeyboardInterrupt:
                return _ended(f"atomiclm {name}: interrupted", 130)
            except BrokenPipeError:
                discard(sys.stdout)
                return 0
            except UserError as error:
                return _ended(f"atomiclm {name}: {error}", 2)
            except OSError as error:
                return _ended(f"atomiclm {name}: {format_error(error)}", 1)

        return run

    return decorated


@contextmanager
def say_if_slow(doing: str, quiet: bool = False) -> Iterator[None]:
    """Print what is being done on standard error, unless it is done within half a second or asked to be quiet."""
    if quiet:
        yield
        return
    timer = threading.Timer(0.5, print, [doing], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Parser(argparse.ArgumentParser):
    """Names the flag that one it does not know was meant to be."""

    def error(self, message: str) -> NoReturn:
        _, unknown, flag = message.partition("unrecognized arguments: ")
        options = [option for action in self._actions for option in action.option_strings]
        if unknown and (near := get_close_matches(re.split("[ =]", flag)[0], options, n=1)):
            message += f"; did you mean {near[0]}?"
        super().error(message)


def command_parser(name: str, description: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of the command of that name, with what all have: examples under the help, and --version."""
    parser = _Parser(
        prog=f"atomiclm {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


def whole_number(least: int = 1, most: int | None = None) -> Callable[[str], int]:
    """The `type` of a flag whose value is a whole number within bounds."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) and (most is None or int(text) <= most):
                return int(text)
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")

    return parse


class _Results:
    """Where results go, and in what form."""

    stream: TextIO | None = None  # None: wherever everything goes
    as_json = False


@contextmanager
def reporting(quiet: bool, as_json: bool = False) -> Iterator[None]:
    """Inside, only `report` prints on standard output; the rest goes to standard error, or, if quiet, nowhere."""
    _Results.stream, _Results.as_json = sys.stdout, as_json
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if quiet else sys.stderr):
            yield
    finally:
        _Results.stream, _Results.as_json = None, False


def report(lines: Iterable[str], facts: Mapping[str, Any], say: Callable[[str], object] | None = None) -> None:
    """Print the result of a command: `lines` for people, or under --json `facts` as one object on one line.

    `say` prints a line where results go with everything else.
    """
    from atomiclm.atomic_io import to_json

    if say is None or _Results.stream is not None:
        say = functools.partial(print, file=_Results.stream or sys.stdout, flush=True)
    for line in [to_json(facts).decode()] if _Results.as_json else lines:
        say(line)


def mend_streams() -> None:
    """Make printing work with streams that were closed, and in an encoding that lacks what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # or a file of ours gets the number, and with it what libraries print
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(getattr(sys.stdout, "errors", None), str) and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


class Lasting:
    """Standard output of a command whose work does not end with its reader: the rest is lost, and said to be."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._errors = sys.stderr  # where it is said, whatever standard error is by then

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        discard(self._stream)
        with contextlib.suppress(OSError):
            print(f"nothing more is printed ({error.strerror}); the command goes on", file=self._errors, flush=True)


def discard(stream: Any) -> None:
    """Let what is printed from here on, and what waits to be, vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def format_error(error: Exception) -> str:
    """What an error says; one of the system, of which file, if that is known."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror


def _ended(message: str, status: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    return status
