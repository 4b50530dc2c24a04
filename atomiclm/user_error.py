"""Where a user's mistake was before `atomiclm.cli`."""

from atomiclm.cli import UserError, from_user

__all__ = ["UserError", "from_user"]
