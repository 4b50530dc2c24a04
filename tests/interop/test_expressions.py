"""Which split patterns are carried from one engine to another: those that cut every text at the same places."""

import itertools
import random
from collections.abc import Callable

import pytest
import regex
import tiktoken
from tokenizers import Regex, pre_tokenizers

from atomiclm.interop.expressions import matches_everything, name_in_huggingface, name_of, one_meaning
from atomiclm.tokenizer.patterns import PATTERNS, SPELLINGS, split_pattern

ALPHABET = "aS1 \n\r'."
LONGEST = 5
SHORT_TEXTS = ["".join(text) for n in range(1, LONGEST + 1) for text in itertools.product(ALPHABET, repeat=n)]
# With a token for each of them, tiktoken's tokens are its pretokens.
TOKENS = {text.encode(): rank for rank, text in enumerate(SHORT_TEXTS)} | {
    bytes([value]): len(SHORT_TEXTS) + value for value in range(256) if chr(value) not in ALPHABET
}


def cut_by_tiktoken(expression: str) -> Callable[[str], list[str]]:
    encoding = tiktoken.Encoding("cuts", pat_str=expression, mergeable_ranks=TOKENS, special_tokens={})
    return lambda text: [SHORT_TEXTS[token] for token in encoding.encode_ordinary(text)]


def cut_by_huggingface(expression: str) -> Callable[[str], list[str]]:
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    return lambda text: [piece for piece, _ in split.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PATTERNS)
def test_named_patterns_cut_every_short_text_alike(name: str) -> None:
    ours = split_pattern(name).split
    theirs = cut_by_tiktoken(PATTERNS[name]), cut_by_huggingface(PATTERNS[name])
    for text in SHORT_TEXTS:
        pieces = ours(text)
        assert theirs[0](text) == pieces, "tiktoken"
        assert theirs[1](text) == pieces, "Hugging Face"


@pytest.mark.parametrize("spelling", SPELLINGS, ids=SPELLINGS.values())
def test_other_spellings_mean_the_pattern_they_are_named_by(spelling: str) -> None:
    assert name_of(spelling) == SPELLINGS[spelling]
    ours = split_pattern(SPELLINGS[spelling]).split
    tiktokens = cut_by_tiktoken(spelling)
    assert all(tiktokens(text) == ours(text) for text in SHORT_TEXTS)
    if name_in_huggingface(spelling):
        theirs = cut_by_huggingface(spelling)
        assert all(theirs(text) == ours(text) for text in SHORT_TEXTS[::3])


def test_oniguruma_reads_one_spelling_differently() -> None:
    tiktokens = next(text for text, name in SPELLINGS.items() if name == "cl100k")
    assert name_in_huggingface(tiktokens) is None
    assert cut_by_huggingface(tiktokens)("12345") == ["12345"] != split_pattern("cl100k").split("12345")


def random_expression(generator: random.Random, depth: int = 1) -> str:
    """An expression of the pieces that `one_meaning` knows."""

    def set_of() -> str:
        members = generator.choices(["a", "a-z", "S", r"\s", r"\r\n", r"\p{L}", r"\p{N}", "'", r"\.", "."], k=2)
        return f"[{generator.choice(['', '^'])}{''.join(members)}]"

    def piece() -> str:
        kind = generator.random()
        if kind < 0.1 and depth:
            return rf"(?!{generator.choice([r'\S', r'\s', 'a', '[^a1]'])})"
        if kind < 0.25 and depth:
            atom = f"(?:{random_expression(generator, depth - 1)})"
        elif kind < 0.3:
            atom = generator.choice(["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:[sdmt]|ll|ve|re)"])
        elif kind < 0.6:
            atom = set_of()
        else:
            atom = generator.choice(
                ["a", "S", "1", " ", "'", r"\.", r"\s", r"\S", r"\n", r"\p{L}", r"\p{Lu}", r"\p{N}"]
            )
        return atom + generator.choice(["", "", "", "?", "*", "+", "++", "?+", "*+", "{2}", "{1,3}", "{2,}"])

    return "|".join("".join(piece() for _ in range(generator.randint(1, 3))) for _ in range(generator.randint(1, 4)))


@pytest.mark.slow
def test_expressions_of_one_meaning_have_one() -> None:
    generator = random.Random(5)
    used = 0
    for _ in range(300):
        expression = random_expression(generator)
        if not one_meaning(expression):
            continue  # it matches the empty text
        used += 1
        texts = generator.sample(SHORT_TEXTS, 60)
        ours, compiled = split_pattern(expression).split, regex.compile(expression)
        tiktokens, huggingfaces = cut_by_tiktoken(expression), cut_by_huggingface(expression)
        everything = matches_everything(expression) if used % 20 == 0 else None
        for text in texts:
            assert huggingfaces(text) == ours(text), expression
            assert tiktokens(text) == compiled.findall(text), expression  # it drops what does not match
            if everything:
                assert tiktokens(text) == ours(text), expression
    assert used > 150


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"\p{N}{1,3}+", "12345"),
        (r"(?i:st)", "a\ufb06"),  # one letter that is "st"
        (r"a+$", "aa\naa"),
        (r"[\w&&a]+", "ab&"),
        (r"(?i:ss)", "aßb"),
    ],
)
def test_what_engines_read_differently_is_refused(expression: str, text: str) -> None:
    assert not one_meaning(expression)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # `regex` warns of && itself
        assert cut_by_huggingface(expression)(text) != split_pattern(expression).split(text)


@pytest.mark.parametrize(
    "expression",
    [r"\w+", r"\d", r"\ba", ".", "a+?", "a||b", "", "a*", "(?:", "(a)", "(?=a)a", "(?<=a)b", "[[:alpha:]]", r"\p{Han}",
     "(?i:a)", r"a{,3}", "(?:" * 900 + "a" + ")" * 900, "(" * 2000, r"\u0041", "[a--b]", "(?a)x", "[^]"],
)  # fmt: skip
def test_what_is_not_known_to_be_safe_is_refused(expression: str) -> None:
    assert not one_meaning(expression)


@pytest.mark.slow
def test_whether_text_is_left_over() -> None:
    assert all(matches_everything(text) for name, text in PATTERNS.items() if name != "cl100k")
    assert matches_everything(r"[^a|]+|(?:a|\|)")
    for expression in (r"\p{L}+", r"\s+|\S(?!\S)", r"[^a]+", r"\p{L}+|\P{L}x", r"..|a"):
        assert not matches_everything(expression)
