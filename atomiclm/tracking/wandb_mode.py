"""Whether W&B is online, offline or disabled here: the settings, WANDB_MODE, and whether there is a key."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from atomiclm.cli import UserError

Mode = Literal["online", "offline", "disabled"]

FROM_VARIABLE: Mapping[str, Mode] = {
    "online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline",
    "disabled": "disabled",
}  # fmt: skip
"""Values of WANDB_MODE, older spellings included."""

PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""The two names of the public service: a login made under one is valid under the other."""


def choose_mode(mode: str, base_url: str | None = None) -> tuple[Mode, str]:
    """Resolve a configured mode to what can be done here, without asking anybody.

    Args:
        mode: "auto" (WANDB_MODE when it is set, else online exactly if a key is found, else offline), "online",
            "offline" or "disabled".
        base_url: the server; WANDB_BASE_URL or the public service when None.

    Returns:
        The mode, and why the user did not get what was asked for ("" when they did). Online without a key becomes
        offline, because wandb would stop the run to prompt for one.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "")
        if not mode:
            return ("online" if has_key(base_url) else "offline"), ""
        if mode not in FROM_VARIABLE:
            return "offline", f"WANDB_MODE={mode} is none of {', '.join(FROM_VARIABLE)}"
    if FROM_VARIABLE[mode] == "online" and not has_key(base_url):
        return "offline", "online was asked for, but no key was found (set WANDB_API_KEY or run `wandb login`)"
    return FROM_VARIABLE[mode], ""


def has_key(base_url: str | None = None) -> bool:
    """Whether wandb would find credentials for the server: an environment variable, or a netrc entry for its host."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(base_url or os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC_HOSTS[0]}").netloc
    try:
        if named := os.environ.get("NETRC"):
            path = Path(named).expanduser()
        else:
            path = next(path for name in (".netrc", "_netrc") if (path := Path.home() / name).is_file())
        entries = netrc.netrc(path)
    except (netrc.NetrcParseError, OSError, RuntimeError, StopIteration):  # RuntimeError: a user without a home folder
        return False  # wandb cannot read one either
    hosts = PUBLIC_HOSTS if host in PUBLIC_HOSTS else (host,)
    return any(entry[2] for name in hosts if (entry := entries.authenticators(name)))


def import_wandb() -> Any:
    """Import wandb so that it prints nothing; Any, because it may be half installed."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def require_key(otherwise: str) -> Any:
    """Import wandb where it can go online.

    Raises:
        UserError: no key was found; its message ends with what to do `otherwise`.
    """
    wandb = import_wandb()
    mode, reason = choose_mode("online", wandb.setup().settings.base_url)
    if mode != "online":
        raise UserError(f"{reason}; or {otherwise}")
    return wandb
