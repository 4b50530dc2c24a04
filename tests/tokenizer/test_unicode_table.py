"""The pinned Unicode table against tables that we did not write."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import tiktoken

from atomiclm.tokenizer import unicode_table
from atomiclm.tokenizer.unicode_table import (
    CATEGORIES,
    CODE_POINTS,
    LETTER,
    LOWER,
    MARK,
    NEWLINE,
    NUMBER,
    OTHER,
    SPACE,
    UPPER,
    categories,
    classes,
    two_stages,
)

SURROGATES = range(0xD800, 0xE000)
PROPERTIES = {"space": r"[^\S\r\n]", "newline": r"[\r\n]", "other": r"[^\s\p{L}\p{N}\p{M}]"}


@pytest.fixture(scope="module")
def everything() -> str:
    return "".join(chr(point) for point in range(CODE_POINTS) if point not in SURROGATES)


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_category_is_that_of_tiktoken(name: str, everything: str) -> None:
    """An encoding that knows only bytes drops the text that its pattern does not match, so it shows what it matches."""
    pattern = PROPERTIES.get(name, rf"\p{{{name}}}")
    single_bytes = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=single_bytes, special_tokens={})
    theirs = bytes(encoding.encode_ordinary(everything)).decode()
    table, index = categories(), CATEGORIES.index(name)
    assert theirs == "".join(character for character in everything if table[ord(character)] == index)


def test_surrogates_are_no_characters() -> None:
    assert {CATEGORIES[categories()[point]] for point in SURROGATES} == {"other"}


def test_unicode_data_of_python_agrees() -> None:
    """Where Python's table is older, new characters are missing in it; otherwise none may differ."""
    if tuple(map(int, unicodedata.unidata_version.split("."))) > (16,):
        pytest.skip("this Python has a later Unicode, which may have moved characters")
    table = categories()
    differing = []
    for point in range(CODE_POINTS):
        theirs, ours = unicodedata.category(chr(point)), CATEGORIES[table[point]]
        if theirs != "Cn" and theirs[0] in "LMN" and ours != (theirs if theirs[0] == "L" else theirs[0]):
            differing.append(point)
        if theirs[0] in "PSC" and theirs != "Cn" and ours not in ("other", "space", "newline"):
            differing.append(point)
    assert not differing


def test_figures() -> None:
    count = Counter(CATEGORIES[category] for category in categories())
    assert sum(count[name] for name in ("Lu", "Lt", "Ll", "Lm", "Lo")) == 141_028
    assert count["N"] == 1_911
    assert count["space"] + count["newline"] == 25
    assert [point for point in range(0x80) if classes()[point] == SPACE] == [9, 11, 12, 32]


def test_classes_follow_from_categories() -> None:
    expected = {"other": OTHER, "M": MARK, "space": SPACE, "newline": NEWLINE, "N": NUMBER, "Ll": LOWER}
    expected |= {"Lu": UPPER, "Lt": UPPER, "Lm": LETTER, "Lo": LETTER}
    pairs = set(zip(categories(), classes(), strict=True))
    assert pairs == {(CATEGORIES.index(name), kind) for name, kind in expected.items()}


def test_two_stages_are_the_table() -> None:
    stage1, stage2 = two_stages()
    assert bytes(stage2[stage1[c >> 7] << 7 | c & 127] for c in range(CODE_POINTS)) == classes()
    assert stage2[:128] == classes()[:128]  # the kernels look ASCII up directly
    assert len(stage1) + len(stage2) < 40_000  # in the first cache of a processor


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("0041-005A Lu", "0041-005B Lu"),
        ("0041-005A Lu", "0041-005A Ll"),
        ("0041-005A Lu", "0041-005A Lx"),
        ("0041-005A Lu", "0041-005A"),
        ("0041-005A Lu", "0041-zzzz Lu"),
        ("0041-005A Lu", "0041-005A Lu\n\xff"),
        ("0030-0039 N\n", ""),
    ],
)
def test_another_table_is_refused(what: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = unicode_table._FILE.read_text("ascii")
    assert text.count(what) == 1
    path = tmp_path / "unicode_16.txt"
    path.write_bytes(text.replace(what, by).encode("latin-1"))
    monkeypatch.setattr(unicode_table, "_FILE", path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .* reinstall"):
        categories.__wrapped__()
