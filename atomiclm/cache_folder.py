"""Where files are kept that can be made again."""

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """$ATOMICLM_CACHE, else $XDG_CACHE_HOME/atomiclm, else ~/.cache/atomiclm. An empty variable counts as unset."""
    if own := os.environ.get("ATOMICLM_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "atomiclm"
    return Path.home() / ".cache" / "atomiclm"
