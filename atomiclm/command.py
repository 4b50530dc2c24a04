"""Where the shell of the commands was before `atomiclm.cli`."""

from atomiclm.cli import VERSION, Lasting, command, discard, mend_streams
from atomiclm.cli import format_error as told

__all__ = ["VERSION", "Lasting", "command", "discard", "mend_streams", "told"]
