"""Long documents are encoded in pieces; nobody should be able to tell."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.data.prepare import pieces


@given(text=st.text(st.sampled_from("ab \n\r.,1ü'中"), max_size=400), size=st.integers(1, 40))
@settings(deadline=None)
def test_pieces_join_to_the_text_and_are_bounded(text, size):
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert all(len(piece) <= 2 * size for piece in cut)
    assert all(len(piece) >= size for piece in cut[:-1])


# Words, spaces of all sorts, line ends, digits, punctuation, contractions: what the split patterns tell apart.
PARTS = st.sampled_from(
    [
        "word",
        "Ärger",
        "don't",
        "I'LL",
        "中文",
        "1234567",
        "_x",
        "é",
        ".",
        "...",
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "  ",
        "\t",
        "½",
    ]
)


@given(parts=st.lists(PARTS, max_size=120), size=st.integers(2, 30), name=st.sampled_from(["gpt2", "gpt4"]))
@settings(deadline=None, max_examples=200)
def test_a_cut_at_a_word_or_line_is_a_border_of_the_split_patterns(parts, size, name):
    patterns = pytest.importorskip("atomiclm.tokenizer.patterns")
    regex = pytest.importorskip("regex")
    text = "".join(parts)
    borders, end = {0}, 0
    for match in regex.finditer(patterns.PATTERNS[name], text):
        end = match.end()
        borders.add(end)
    assert end == len(text)
    place, begins_well = 0, True
    for piece in list(pieces(text, size))[:-1]:
        place += len(piece)
        ends_well = len(piece) < 2 * size  # else there was no good place in reach: cut anywhere, as is documented
        begun_well, begins_well = begins_well, ends_well
        if not (begun_well and ends_well):
            continue
        assert place in borders
        # and the pieces themselves split as they do within the whole
        inside = {place - len(piece) + match.end() for match in regex.finditer(patterns.PATTERNS[name], piece)}
        assert inside == {border for border in borders if place - len(piece) < border <= place}
