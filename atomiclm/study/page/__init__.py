"""A comparison as one self-contained HTML page, and as one figure. Torch-free."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomiclm.study.page.document import page_html, write_page
    from atomiclm.study.page.figure import figure_svg

__all__ = ["figure_svg", "page_html", "write_page"]

_MODULES = {"figure_svg": "figure", "page_html": "document", "write_page": "document"}


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
