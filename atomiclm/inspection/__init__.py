"""Looking into a model: what it made of a text, token by token, layer by layer, head by head; and a page of it."""

from atomiclm.inspection.page import most_tokens, page_html
from atomiclm.inspection.reading import Reading, read

__all__ = ["Reading", "most_tokens", "page_html", "read"]
