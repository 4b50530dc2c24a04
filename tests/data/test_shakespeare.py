"""The pinned file: given, fetched, or neither. Nothing here touches a network."""

import hashlib
import io
import urllib.error

import pytest

from atomiclm.data import Shakespeare, SourceError

PLAY = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"


@pytest.fixture
def pinned(monkeypatch, tmp_path):
    """A short play in place of the megabyte; the number of downloads is counted."""
    monkeypatch.setattr("atomiclm.data.builtin_corpora.SHA256", hashlib.sha256(PLAY).hexdigest())
    monkeypatch.setenv("ATOMICLM_CACHE", str(tmp_path / "cache"))
    requests = []

    def served(body):
        def urlopen(url, timeout):
            requests.append((url, timeout))
            if isinstance(body, Exception):
                raise body
            return io.BytesIO(body)

        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        return requests

    return served


def test_it_is_fetched_once(pinned, tmp_path):
    requests = pinned(PLAY)
    for _ in range(2):
        [document] = Shakespeare().documents()
        assert document.text == PLAY.decode()
    assert len(requests) == 1
    assert requests[0][1] > 0  # a timeout
    assert [path.name for path in (tmp_path / "cache" / "downloads").glob("*.txt")] == ["tinyshakespeare.txt"]


def test_a_damaged_copy_in_the_cache_is_fetched_again(pinned, tmp_path):
    requests = pinned(PLAY)
    list(Shakespeare().documents())
    (tmp_path / "cache" / "downloads" / "tinyshakespeare.txt").write_bytes(PLAY[:-1])
    [document] = Shakespeare().documents()
    assert document.text == PLAY.decode()
    assert len(requests) == 2


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("Name or service not known"), TimeoutError("timed out"), ConnectionResetError("reset")],
)
def test_without_a_network_the_way_out_is_named(pinned, tmp_path, error):
    pinned(error)
    with pytest.raises(SourceError, match=r"could not fetch .* give a copy of the file: data\.path=FILE"):
        list(Shakespeare().documents())


def test_another_text_behind_the_address_is_refused_and_not_kept(pinned, tmp_path):
    pinned(b"<html>please log in</html>")
    with pytest.raises(SourceError, match="is not tinyshakespeare"):
        list(Shakespeare().documents())
    assert not list((tmp_path / "cache" / "downloads").glob("*.txt"))


def test_a_given_file_is_taken_and_checked(pinned, tmp_path):
    requests = pinned(PLAY)
    copy = tmp_path / "copy.txt"
    copy.write_bytes(PLAY)
    source = Shakespeare(path=str(copy))
    assert source.faults() == []
    assert [document.text for document in source.documents()] == [PLAY.decode()]
    copy.write_bytes(PLAY + b"!")
    [(argument, message)] = source.faults()
    assert argument == "path"
    assert "data=text" in message
    with pytest.raises(SourceError, match="not tinyshakespeare"):
        list(source.documents())
    assert "cannot read" in Shakespeare(path=str(tmp_path / "missing.txt")).faults()[0][1]
    assert requests == []


def test_a_quick_look_does_not_download(pinned):
    requests = pinned(PLAY)
    assert Shakespeare().faults() == []
    assert requests == []
