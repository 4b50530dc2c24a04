"""The folder of files that can be made again."""

import os
from pathlib import Path

from atomiclm.cli import UserError


def default_cache_dir() -> Path:
    """$ATOMICLM_CACHE, else $XDG_CACHE_HOME/atomiclm, else ~/.cache/atomiclm. An empty variable counts as unset.

    Raises:
        ValueError: no variable is set and the user has no home folder, as in some containers.
    """
    if own := os.environ.get("ATOMICLM_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "atomiclm"
    try:
        return Path.home() / ".cache" / "atomiclm"
    except RuntimeError as error:
        raise UserError(
            "no folder for the cache: HOME is not set, and this user has no home folder; "
            "set ATOMICLM_CACHE to a folder you may write to"
        ) from error
