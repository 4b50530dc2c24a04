"""The default corpus."""

import sysconfig
from pathlib import Path

import pytest

from atomiclm.data import PythonStandardLibrary, SourceError


def test_this_interpreter_has_a_corpus_of_the_expected_size():
    source = PythonStandardLibrary()
    assert source.faults() == []
    documents = list(source.documents())
    names = [document.name for document in documents]
    assert 400 < len(documents) < 1500
    assert 5e6 < sum(len(document.text) for document in documents) < 30e6
    assert names == sorted(names)
    assert "abc.py" in names
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages"} & set(name.split("/"))]
    assert (Path(sysconfig.get_paths()["stdlib"]) / "abc.py").read_bytes().decode() == documents[
        names.index("abc.py")
    ].text


def test_files_in_other_encodings_are_left_out_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.builtin_corpora._library_folder", lambda: tmp_path)
    (tmp_path / "good.py").write_text("x = 'ü'\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xfc'\n")
    (tmp_path / "empty.py").touch()
    (tmp_path / "note.txt").write_text("not a source")
    (tmp_path / "_sysconfigdata__linux.py").write_text("build_time_vars = {}")
    for folder in ("test", "tests", "site-packages", "unittest"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text(folder)
    source = PythonStandardLibrary()
    assert [document.name for document in source.documents()] == ["good.py", "unittest/a.py"]
    assert source.left_out == 1


def test_a_python_without_sources_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.builtin_corpora._library_folder", lambda: tmp_path)
    [(_, message)] = PythonStandardLibrary().faults()
    assert "data=text" in message


def test_a_decoding_fault_is_the_only_kind_that_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.builtin_corpora._library_folder", lambda: tmp_path)
    (tmp_path / "a.py").write_text("a")

    def unreadable(*_):
        raise SourceError("path", "cannot be read: disk on fire")

    monkeypatch.setattr("atomiclm.data.file_formats._whole_text", unreadable)
    with pytest.raises(SourceError, match="disk on fire"):
        list(PythonStandardLibrary().documents())
