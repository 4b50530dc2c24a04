"""The site in a browser: quiet, alone, no wider than a phone, and its search finds something."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from comparison.page_browser import CHROMIUM, Browser
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Address(str):
    """Of a page that is no file."""

    def as_uri(self):
        return str(self)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The site as `mkdocs build --strict` makes it, served on this machine."""
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "site"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_site(site, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        for page in ("", "add_a_component/", "reference/model-attention/", "api/model/", "?q=attention"):
            for width in (1280, 390):
                browser.open(Address(site + page), width)
                if "q=" in page:
                    browser.wait("document.querySelector('.md-search-result__item') !== null")
                else:  # the search's own panel slides in from beside the window
                    assert not browser.run("document.documentElement.scrollWidth > innerWidth"), (page, width)
                assert [what for what in browser.heard if not _is_own(what, site)] == []


def _is_own(heard, site):
    return heard[0] == "request" and heard[1].startswith((site, "data:"))
