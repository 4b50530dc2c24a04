"""The classic small corpus of char-rnn and nanoGPT."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from atomiclm.atomic_io import write_atomic
from atomiclm.cache_folder import default_cache_dir
from atomiclm.data.cache import exclusive, silent
from atomiclm.data.source import Document, SourceError, TextSource

# karpathy/char-rnn, data/tinyshakespeare/input.txt
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE_BYTES = 1_115_394
TIMEOUT_SECONDS = 20.0


class Shakespeare(TextSource):
    """tinyshakespeare: 1,115,394 characters (ASCII) of Shakespeare's plays, one document.

    path: a copy of the file; null fetches it once into the cache folder
    validation_fraction: share of the characters held out, from the end; 0.1 is the split of char-rnn and nanoGPT
        (1,003,854 characters to train on, 111,540 to validate)

    The sha256 is pinned either way, so that the name stands for one text and published figures apply to it.
    Source: Karpathy, char-rnn (2015), github.com/karpathy/char-rnn.
    """

    def __init__(self, path: str | None = None, validation_fraction: float = 0.1) -> None:
        super().__init__(validation_fraction)
        self.path = path

    def describe(self) -> str:
        return f"tinyshakespeare ({SIZE_BYTES / 1e6:.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        try:
            if self.path is not None:  # whether a download will work is not tried
                _read(self.path)
        except SourceError as error:
            return [(error.argument, error.message)]
        return []

    def documents(self) -> Iterator[Document]:
        raw = _fetch() if self.path is None else _read(self.path)
        yield Document("tinyshakespeare", raw.decode("utf-8"))


def _read(path: str) -> bytes:
    """A copy of the file."""
    try:
        return _checked(Path(path).expanduser().read_bytes(), path)
    except OSError as error:
        raise SourceError(
            "path", f"cannot read {path} (from {Path.cwd()}): {error.strerror or error}; correct data.path"
        ) from error


def _fetch() -> bytes:
    """The file from the cache folder, or from its address."""
    import http.client  # only a download pays for these
    import urllib.error
    import urllib.request

    target = default_cache_dir() / "downloads" / "tinyshakespeare.txt"
    with exclusive(target, silent):
        if target.is_file():
            raw: bytes = target.read_bytes()
            if hashlib.sha256(raw).hexdigest() == SHA256:
                return raw
        try:
            with urllib.request.urlopen(URL, timeout=TIMEOUT_SECONDS) as response:
                raw = response.read(2 * SIZE_BYTES)  # bounded: a page of another kind need not end
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise SourceError(
                "path", f"could not fetch {URL} ({reason}); without a network, give a copy of the file: data.path=FILE"
            ) from error
        write_atomic(target, _checked(raw, URL))
        return raw


def _checked(raw: bytes, origin: str) -> bytes:
    digest = hashlib.sha256(raw).hexdigest()
    if digest != SHA256:
        raise SourceError(
            "path",
            f"{origin} is not tinyshakespeare: {len(raw):,} bytes with sha256 {digest[:16]}..., expected "
            f"{SIZE_BYTES:,} with {SHA256[:16]}...; for another text use data=text data.path=FILE",
        )
    return raw
