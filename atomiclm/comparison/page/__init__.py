"""A comparison as one self-contained HTML page, and as one figure. Torch-free."""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.comparison.page.document import page_html, write_page
    from atomiclm.comparison.page.figure import figure_svg

__all__ = ["figure_svg", "page_html", "write_page"]

_MODULE_OF = {"figure_svg": "figure", "page_html": "document", "write_page": "document"}

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
