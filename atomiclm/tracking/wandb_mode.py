"""Which way the W&B mirror runs, decided without asking anybody; and how wandb is imported."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

Mode = Literal["online", "offline", "disabled"]

FROM_VARIABLE: Mapping[str, Mode] = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
"""Values of WANDB_MODE, older spellings included."""

PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""The two names of the public service: a login made under one is valid under the other."""


def choose_mode(mode: str, base_url: str | None = None) -> tuple[Mode, str]:
    """Resolve a configured mode to what can be done here.

    Args:
        mode: "auto" (WANDB_MODE when it is set, else online exactly if a key is found, else offline), "online",
            "offline" or "disabled".
        base_url: the server; WANDB_BASE_URL or the public service when None.

    Returns:
        The mode, and why the user did not get what was asked for ("" when they did). Online without a key becomes
        offline, because wandb would stop the run to prompt for one.
    """
    wanted: str = mode
    if mode == "auto":
        variable = os.environ.get("WANDB_MODE", "")
        if not variable:
            return ("online" if has_key(base_url) else "offline"), ""
        wanted = FROM_VARIABLE.get(variable, "")
        if not wanted:
            return "offline", f"WANDB_MODE={variable} is none of {', '.join(FROM_VARIABLE)}"
    if wanted == "online" and not has_key(base_url):
        return "offline", "online was asked for, but no key was found (set WANDB_API_KEY or run `wandb login`)"
    return FROM_VARIABLE[wanted], ""


def has_key(base_url: str | None = None) -> bool:
    """Whether wandb would find credentials for the server: an environment variable, or a netrc entry for its host."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(base_url or os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC_HOSTS[0]}").netloc
    path = _netrc_path()
    if path is None:
        return False
    try:
        entries = netrc.netrc(path)
    except (netrc.NetrcParseError, OSError):
        return False  # wandb cannot read it either
    hosts = PUBLIC_HOSTS if host in PUBLIC_HOSTS else (host,)
    return any(entry[2] for name in hosts if (entry := entries.authenticators(name)))


def _netrc_path() -> Path | None:
    """The file wandb reads: $NETRC, else .netrc or _netrc in the home folder."""
    try:
        if named := os.environ.get("NETRC"):
            return Path(named).expanduser()
        candidates = [Path.home() / name for name in (".netrc", "_netrc")]
    except RuntimeError:  # a user without a home folder
        return None
    return next((path for path in candidates if path.is_file()), None)


def import_wandb() -> Any:
    """Import wandb so that it keeps quiet; Any, because it may be half installed."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb
