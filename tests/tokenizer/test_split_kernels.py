"""The compiled splitters cut exactly where the regular expressions do: the law they exist under."""

import itertools
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer.fast import why_unavailable
from atomiclm.tokenizer.fast.pretoken_end import Text
from atomiclm.tokenizer.fast.split import split
from atomiclm.tokenizer.patterns import PATTERNS, split_pattern
from atomiclm.tokenizer.unicode_table import CODE_POINTS, categories, two_stages

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))

NAMES = ["gpt4", "cl100k", "gpt2", "o200k"]

SIGNS_AND_WORDS = [
    *"abZSstmd'!(/-/ 1\t\n\r\x0b\x00",
    "'",
    " ",
    "  ",
    "ll",
    "LL",
    "'Ve",
    "re",
    "\r\n",
    "\n\n",
    "23",
    "4567",
]
UNICODE = [
    *("\u00a0", "\u3000", "\u0085", "\u2028"),  # blanks
    *("\u017f", "\u212a"),  # the long s and the Kelvin sign, upper case of which are S and K
    *("\u2167", "\uff10", "\u0301", "\u0902", "\u200d"),  # numbers, marks, a joiner
    *("\u01c5", "\u02b0", "é", "Ж", "ж", "日", "본", "\U0001d11e", "\U00010400", "\U00010428", "“"),
    *("\U000323b0", "\u0295", "\U00010d50"),  # characters about which versions of Unicode differ
]
BROKEN = [  # cut off, overlong, surrogates, beyond the last code point, a lone continuation
    *(
        b"\xe6\x97",
        b"\xc2",
        b"\xc5",
        b"\xf0\x9f\x98",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
    ),
    *(b"\xed\xb2\x80", b"\xf5\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xff", b"\x80", b"\xbf"),
]
ASCII_PARTS = [part.encode() for part in SIGNS_AND_WORDS]
PARTS = [*ASCII_PARTS, *(part.encode() for part in UNICODE), *BROKEN]


def by_kernel(
    data: bytes, name: str, start: int = 0, size: int | None = None, capacity: int | None = None
) -> list[int]:
    """Where pretokens end, from one call of the kernel."""
    size = len(data) if size is None else size
    capacity = size + 1 if capacity is None else capacity
    ends = np.full(capacity + 64, -1, np.int64)  # with room behind, where nothing may be written
    count = split(Text(data, size, *two_stages()), start, split_pattern(name).code, ends, capacity)
    assert count <= capacity
    assert (ends[count:] == -1).all()
    return ends[:count].tolist()


def by_pattern(data: bytes, name: str) -> list[int]:
    """The same from the regular expression, on text."""
    pieces = split_pattern(name).split(data.decode("utf-8", "surrogateescape"))
    return list(itertools.accumulate(len(piece.encode("utf-8", "surrogateescape")) for piece in pieces))


def assert_same(data: bytes, name: str) -> None:
    ours, theirs = by_kernel(data, name), by_pattern(data, name)
    if ours != theirs:
        at = next(i for i, (a, b) in enumerate(itertools.zip_longest(ours, theirs)) if a != b)
        start = theirs[at - 1] if at else 0
        context = data[max(0, start - 20) : start], data[start : start + 80]
        raise AssertionError(f"{name}: piece {at} of {context} ends at {ours[at : at + 1]}, not {theirs[at : at + 1]}")


def samples(points: Iterator[int], form: str) -> Iterator[bytes]:
    """Text in which each code point takes each place X of `form`, in parts of bounded size."""
    characters = [chr(point) for point in points if not 0xD800 <= point < 0xDC80 and not 0xDD00 <= point < 0xE000]
    for start in range(0, len(characters), 4096):
        text = "".join(form.replace("X", character) for character in characters[start : start + 4096])
        yield text.encode("utf-8", "surrogateescape")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_code_point(name: str) -> None:
    """As letter of a contraction, as and behind the sign of a word, alone, beside a number, a sign and a line break."""
    for data in samples(iter(range(CODE_POINTS)), "'X aX XA1X!X\nX"):
        assert_same(data, name)


EVERY_PLACE = (
    "'X'rX'lX'sX'SXa'Xb'vXc'lXAX'XBX日XCXdX日Xe\u0301XF\u0301X\u0301gXX X  X\tX X \tX1X23X456X!X!!X (X-a X'X/X//X\nX\n"
    "\nX\rX!\nX!\r\n/X/\n X \n X\n  X \u3000X\u00a0X aXX AXX 1XX !XX\nXX\xffX"
)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_every_place_of_the_patterns(name: str) -> None:
    """The characters next to a border of the table and all of the beginning, in every place that a pattern has."""
    table = categories()
    borders = {point for point in range(1, CODE_POINTS) if table[point] != table[point - 1]}
    points = borders | {point - 1 for point in borders} | set(range(0x250)) | {0x10FFFF} | set(range(0xDC80, 0xDD00))
    for data in samples(iter(sorted(points)), EVERY_PLACE):
        assert_same(data, name)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_all_short_texts(name: str) -> None:
    """Every text of up to four characters, one of each kind that some pattern tells apart."""
    for length in range(5):
        for text in itertools.product(*["aA日\u03011 \n!'s/l"] * length):
            assert_same("".join(text).encode(), name)


@pytest.mark.slow
@given(data=st.lists(st.sampled_from(PARTS), max_size=60).map(b"".join), name=st.sampled_from(sorted(PATTERNS)))
@settings(deadline=None, max_examples=1500)
@example(data=b"", name="none")
@example(data=b"\xc5", name="gpt4")
@example(data="'\u017fa'\u017f".encode(), name="o200k")
def test_nasty_text_and_bytes(data: bytes, name: str) -> None:
    assert_same(data, name)


@given(data=st.binary(max_size=200), name=st.sampled_from(sorted(PATTERNS)))
@settings(deadline=None, max_examples=500)
def test_any_bytes(data: bytes, name: str) -> None:
    assert_same(data, name)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_long_texts_of_few_parts(name: str) -> None:
    """Few kinds of parts make every pattern of neighbours occur, at every place of a window of 64 bytes."""
    draw = random.Random(name)
    for round_number in range(1500):
        parts = draw.sample(ASCII_PARTS if round_number % 4 else PARTS, draw.randint(2, 8))
        assert_same(b"".join(draw.choices(parts, k=500)), name)


WORST = {
    "blanks": b" " * 1_000_000 + b"x",
    "lines of one blank": b"\n " * 500_000,
    "upper case": b"A" * 1_000_000,
    "upper case behind no case": "日".encode() + b"A" * 1_000_000,
    "no case and upper case in turns": "日A".encode() * 250_000,
    "marks and upper case in turns": "\u0301A".encode() * 300_000,
    "signs": b"^" * 1_000_000,
    "apostrophes": b"a'" * 500_000,
    "digits": b"7" * 1_000_000,
    "half characters": b"\xe6\x97" * 500_000,
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_worst_cases(name: str) -> None:
    """A megabyte each. Were the kernel quadratic anywhere, this would take hours."""
    for data in WORST.values():
        assert_same(data, name)


@pytest.mark.slow
@given(
    data=(st.lists(st.sampled_from(ASCII_PARTS), min_size=100, max_size=150) | st.lists(st.sampled_from(PARTS))).map(
        b"".join
    ),
    name=st.sampled_from(sorted(PATTERNS)),
    capacity=st.integers(1, 100),
)
@settings(deadline=None, max_examples=300)
def test_many_calls_cut_as_one(data: bytes, name: str, capacity: int) -> None:
    ends: list[int] = []
    while not ends or ends[-1] < len(data):
        more = by_kernel(data, name, ends[-1] if ends else 0, capacity=capacity)
        ends += more
        if not more:
            break
    assert ends == by_kernel(data, name)


@given(
    data=st.lists(st.sampled_from(PARTS), min_size=1, max_size=60).map(b"".join),
    name=st.sampled_from(sorted(PATTERNS)),
    size=st.integers(0, 300),
)
@settings(deadline=None, max_examples=300)
def test_what_lies_behind_the_text_is_not_seen(data: bytes, name: str, size: int) -> None:
    size %= len(data) + 1
    assert by_kernel(data, name, size=size) == by_kernel(data[:size], name)


AT_THE_BORDER = """
import ctypes, mmap, random, sys
import numpy as np
from atomiclm.tokenizer.fast.pretoken_end import Text
from atomiclm.tokenizer.fast.split import split
from atomiclm.tokenizer.unicode_table import two_stages
stages, ends = two_stages(), np.empty(4096, np.int64)
pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + mmap.PAGESIZE), mmap.PAGESIZE, 0)
draw = random.Random(0)
parts = [b"word", b"'", b"'l", b" ", b"1", b"!", b"\\n", b"\\xc5", b"\\xe6\\x97", b"\\xf0"]
for _ in range(3000):
    data = b"".join(draw.choices(parts, k=30))
    border = address + mmap.PAGESIZE
    ctypes.memmove(border - len(data), data, len(data))
    for code in range(5):
        assert split(Text(border - len(data), len(data), *stages), 0, code, ends, len(ends)) > 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects a page of memory as Linux does")
def test_no_byte_behind_the_text_is_read() -> None:
    """The text ends where a page ends, and the next page may not be read."""
    subprocess.run([sys.executable, "-c", AT_THE_BORDER], check=True)
