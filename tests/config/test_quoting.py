"""A value that is plainly a text may be typed as it is; one that could be more is Hydra's to read."""

import pytest
from omegaconf import OmegaConf

from atomiclm.config.command_line import explain, quoted
from atomiclm.config.compose import compose, parsed
from atomiclm.config.run import restore_texts


@pytest.mark.parametrize("value", [
    "out/ünï", "日本/é.txt", "a#b", "it's", "~/texts", "a!b;c", "runs/seed=1-09f0fabc", "a&b", "<a>", "^", "`a`",
    "a\nb", "plain/text.txt", "a b", "a|b", "",
])  # fmt: skip
def test_a_text_is_taken_as_it_stands(value):
    [override] = parsed([quoted(f"data.path={value}")])
    assert override.value() == value


@pytest.mark.parametrize("argument", [
    "seed=1,2", "seed=range(1,3)", "trainer.order=[1,2]", "data={a:1}", "data.path='x=y'", 'data.path="x=y"',
    "data.path=${name}", "optim.lr=3e-4", "optim.lr=-1", "name=null", "model=glob(*)", "~debug",
    r"data.path=C:\x",
])  # fmt: skip
def test_whatever_could_be_more_is_left_as_it_is(argument):
    assert quoted(argument) == argument


@pytest.mark.parametrize("argument", ["data.path=a[b]", "data.path=é,b(", "data.path=a{b}"])
def test_for_the_rest_the_message_says_how(argument):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - Hydra's own, of which composition_fault is told
        parsed([quoted(argument)])
    fault = str(explain(raised.value, [argument]))
    assert "to give a text as it is, quote it: 'data.path=\"...\"'" in fault
    assert "Lexer" not in fault


@pytest.mark.one_in(4)
@pytest.mark.parametrize("value", ["123", "1e5", "true", "False", "007", "1_000", "inf", "nan", "-1", "12e45678", ".5"])
@pytest.mark.parametrize("key", [
    "name", "output_dir", "cache_dir", "trainer.branch_from", "evaluation.sample_prompt", "tracking.project",
    "tracking.entity", "data.path", "++data.path", "data.text_key",
])  # fmt: skip
def test_a_number_is_a_text_where_text_is_wanted(key, value):
    typed = ["data=text", f"{key}={value}"]
    config = compose(typed)
    restore_texts(config, typed)
    assert OmegaConf.select(config, key.lstrip("+")) == value


@pytest.mark.parametrize("typed", [
    ["optim.lr=1e-3"], ["seed=7"], ["trainer.max_tokens=null"], ["runtime.compile=true"], ["name=null"],
    ["model.attention.window=3"], ["+nowhere.at_all=1"], ["tracking.tags=[1]"], ["model/position=none", "name=a1"], [],
])  # fmt: skip
def test_what_is_no_text_stays_what_it_is(typed):
    config = compose(typed)
    restore_texts(config, typed)
    assert config == compose(typed)
