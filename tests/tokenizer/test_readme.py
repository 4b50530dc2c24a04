"""The worked example of the README, as a reader would type it."""

import doctest
from pathlib import Path


def test_the_worked_example_of_the_readme():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = readme.split("## Text to ids")[1].split("```pycon\n")[1].split("```")[0]
    test = doctest.DocTestParser().get_doctest(example, {}, "README", "README.md", 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted >= 10
    assert result.failed == 0
