r"""Which split patterns mean the same in our engine and in theirs.

Three engines read split patterns: `regex` (ours), fancy_regex (tiktoken) and Oniguruma (Hugging Face). `\p{N}{1,3}+` is
"up to three digits, and no giving back" in two of them and "one to three digits, many times" in Oniguruma; `$`, `\w`,
`\b`, `[a&&b]` and `(?i:ss)` differ as well. So we accept the named patterns, the spellings of them that are in use
(`patterns.py`), and expressions made of nothing but pieces on which all three agree (`one_meaning`).
"""

import regex

from atomiclm.tokenizer.patterns import PATTERNS, SPELLINGS, split_pattern

# The only expressions for which upper and lower case may be taken as one: Oniguruma also folds several letters into
# one (`(?i:st)` finds the ligature "ﬆ" there), and these are known to be safe.
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"(?i:[sdmt]|ll|ve|re)"

_GRAMMAR = regex.compile(
    r"""
    (?(DEFINE)
      (?P<branch>     (?: (?&ahead) | (?&piece) )++ )
      (?P<piece>      (?&atom) (?: [?*+] \+? | \{ \d{1,4} (?: , \d{0,4} )? \} )?+ )      # a+ a*+ a{1,3}, no a+?
      (?P<atom>       (?&class) | (?&set) | (?&literal) | (?&group) )
      (?P<ahead>      \(\?! (?: (?&class) | (?&set) | (?&literal) ) \) )              # before anything else
      (?P<group>      CONTRACTIONS | \(\?: (?&piece)++ (?: \| (?&piece)++ )*+ \) )
      (?P<class>      \\S | (?&kind) )
      (?P<kind>       \\ [rnts] | \\p\{ (?: L | N | M | Lu | Ll | Lt | Lm | Lo ) \} )
      (?P<set>        \[\\s\\S\] | \[ \^? (?: (?&kind) | (?&member) (?: - (?&member) )?+ )++ \] )
      (?P<member>     [^\[\]\\^&~|\-\p{C}] | \\ [\[\]\\^&~|\-.*+?(){}$/] )
      (?P<literal>    [^\[\]\\^$.|?*+(){}\p{C}] | \\ [\[\]\\^$.|?*+(){}/\-] )
    )
    (?&branch) (?: \| (?&branch) )*+
    """.replace("CONTRACTIONS", "|".join(map(regex.escape, _CONTRACTION))),
    regex.VERBOSE,
)


def name_of(expression: str) -> str | None:
    """The name of our pattern that this is, as `regex` and fancy_regex read it; None when it is none of them."""
    named = {text: name for name, text in PATTERNS.items()}
    return named.get(expression) or SPELLINGS.get(expression)


def name_in_huggingface(expression: str) -> str | None:
    """The name of our pattern that this is, as Oniguruma reads it, where the plus of `{1,3}+` repeats once more."""
    return None if regex.search(r"\{[\d,]+\}\+", expression) else name_of(expression)


def one_meaning(expression: str) -> bool:
    """Whether an expression that is none of ours is made only of pieces that all engines read alike.

    It must not match the empty text either: engines differ in where they go on after that.
    """
    try:
        split_pattern(expression)
    except ValueError:
        return False
    return _GRAMMAR.fullmatch(expression) is not None and regex.compile(expression).match("") is None


def tiktoken_reads_alike(expression: str) -> bool:
    """Whether an expression that is none of ours has one meaning and tiktoken drops no text at it."""
    return one_meaning(expression) and matches_everything(expression)


def matches_everything(expression: str) -> bool:
    r"""Whether no character can be left over between two matches: tiktoken drops such characters.

    For an expression of `one_meaning` it is enough that each character alone is matched by an alternative that does
    not look ahead, for then a match begins wherever none is running. May say False without need, never True.
    """
    branches = [""]  # the parts between the `|` that are in no group and no set
    depth = 0
    for piece in regex.findall(r"\\.|\[\^?(?:\\.|[^\]\\])+\]|.", expression, regex.DOTALL):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            branches.append("")
        else:
            branches[-1] += piece
    match = regex.compile("|".join(branch for branch in branches if "(?!" not in branch) or "(?!)").fullmatch
    return all(match(chr(code)) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
