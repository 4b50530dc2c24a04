"""Where the shipped configuration lives: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent
_IN_CHECKOUT = (_CHECKOUT / "conf" / "config.yaml").is_file() and (_CHECKOUT / "pyproject.toml").is_file()

CONF = _CHECKOUT / "conf" if _IN_CHECKOUT else _PACKAGE / "_conf"
"""The folder of the primary config and its groups."""

EXPERIMENTS = _CHECKOUT / "experiments" if _IN_CHECKOUT else _PACKAGE / "_experiments"
"""The folder of the shipped experiments."""
