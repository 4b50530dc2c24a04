"""A value that is plainly a text may be typed as it is; one that could be more is Hydra's to read."""

import pytest

from atomiclm.config.app import _quoted
from atomiclm.config.compose import parsed
from atomiclm.config.composition_faults import composition_fault
from atomiclm.config.typed import texts_quoted


@pytest.mark.parametrize("value", [
    "out/ünï", "日本/é.txt", "a#b", "it's", "~/texts", "a!b;c", "runs/seed=1-09f0fabc", "a&b", "<a>", "^", "`a`",
    "a\nb", "plain/text.txt", "a b", "a|b", "",
])  # fmt: skip
def test_a_text_is_taken_as_it_stands(value):
    [override] = parsed([_quoted(f"data.path={value}")])
    assert override.value() == value


@pytest.mark.parametrize("argument", [
    "seed=1,2", "seed=range(1,3)", "trainer.order=[1,2]", "data={a:1}", "data.path='x=y'", 'data.path="x=y"',
    "data.path=${name}", "optim.lr=3e-4", "optim.lr=-1", "-m", "--config-dir=é", "name=null", "model=glob(*)", "~debug",
    r"data.path=C:\x",
])  # fmt: skip
def test_whatever_could_be_more_is_left_as_it_is(argument):
    assert _quoted(argument) == argument


@pytest.mark.parametrize("argument", ["data.path=a[b]", "data.path=é,b(", "data.path=a{b}"])
def test_for_the_rest_the_message_says_how(argument):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - Hydra's own, of which composition_fault is told
        parsed([_quoted(argument)])
    fault = str(composition_fault(raised.value, [argument]))
    assert "a text that is to be taken as it stands: 'data.path=\"...\"'" in fault
    assert "Lexer" not in fault


@pytest.mark.one_in(4)
@pytest.mark.parametrize("value", ["123", "1e5", "true", "False", "007", "1_000", "inf", "nan", "-1", "12e45678", ".5"])
@pytest.mark.parametrize("key", [
    "name", "output_dir", "cache_dir", "trainer.branch_from", "evaluation.sample_prompt", "tracking.project",
    "tracking.entity", "data.path", "++data.path", "data.text_key",
])  # fmt: skip
def test_a_number_is_a_text_where_text_is_wanted(key, value):
    *_, override = parsed(texts_quoted(["data=text", f"{key}={value}"]))
    assert override.value() == value


@pytest.mark.parametrize("overrides", [
    ["optim.lr=1e-3"], ["seed=7"], ["trainer.max_tokens=null"], ["runtime.compile=true"], ["name=null"], ["name=1,2"],
    ["model.attention.window=3"], ["~trainer.branch_from"], ["+nowhere.at_all=1"], ["tracking.tags=[1]"], ["arm=1"],
    ["model/position=none", "trainer.max_steps=5"], ['name="1"'], ["name=a1"], [], ["data.num_documents=3"],
    ["optim=adamw,lion", "seed=1"], ["model/feedforward=swiglu,gelu", "optim.lr=1e-3"],
])  # fmt: skip
def test_what_is_no_text_stays_what_it_is(overrides):
    assert texts_quoted(overrides) == overrides
