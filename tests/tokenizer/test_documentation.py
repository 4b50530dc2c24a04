"""The worked example of docs/tokenizer.md, as a reader would type it."""

import doctest
from pathlib import Path


def test_the_worked_example_of_the_documentation():
    page = (Path(__file__).parents[2] / "docs/tokenizer.md").read_text(encoding="utf-8")
    example = page.split("```pycon\n")[1].split("```")[0]
    test = doctest.DocTestParser().get_doctest(example, {}, "tokenizer.md", "docs/tokenizer.md", 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted >= 10
    assert result.failed == 0
