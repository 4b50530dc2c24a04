"""The one kind of error that a command tells in one line: a mistake of the user's."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something that the user gave is wrong: a flag, a setting, a file, a run folder. The message says how to mend it.

    Commands print the message alone and end with exit status 2. Any other ValueError that reaches a command is a fault
    of the program, and keeps its traceback. A constructor raises a plain ValueError for its arguments, since it does
    not know who gave them; whoever passes on what a user gave does so in `from_user`.
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
