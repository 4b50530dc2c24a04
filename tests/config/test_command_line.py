"""A setting that is typed as a flag is told how it is written, whatever the number of dashes."""

import pytest

from atomiclm.config.command_line import explain, read_command_line
from atomiclm.config.errors import ConfigError


@pytest.mark.parametrize(("typed", "advice"), [
    (["--model=tiny"], "--model=tiny: a setting is written without dashes; write model=tiny"),
    (["-model=tiny"], "write model=tiny"),
    (["--model", "tiny"], "write model=tiny"),
    (["--model/norm=layernorm"], "write model/norm=layernorm"),
    (["--optim.lr", "3e-4"], "write optim.lr=3e-4"),
    (["--seed", "--cfg", "job"], "write seed=..."),
    (["--seed", "model=tiny"], "write seed=..."),
    (["--experiments=gqa_ratio"], "write experiments=gqa_ratio"),
    (["--hydra.job.name=x"], "write hydra.job.name=x"),
])  # fmt: skip
def test_a_setting_written_as_a_flag_is_told_how_to_write_it(typed, advice):
    with pytest.raises(ConfigError, match="1 fault") as raised:
        read_command_line(typed)
    assert advice in str(raised.value)


def test_every_such_setting_is_told():
    with pytest.raises(ConfigError, match="2 faults"):
        read_command_line(["--model=tiny", "--seed=1"])


@pytest.mark.parametrize(("typed", "flags", "overrides"), [
    (["-m", "seed=1,2"], [], ["seed=1,2"]), (["a=1", "--multirun", "b=2"], [], ["a=1", "b=2"]),
    (["--cfg", "job", "a=1"], ["--cfg", "job"], ["a=1"]), (["a=1", "-c", "job"], ["--cfg", "job"], ["a=1"]),
    (["--config-dir=mine"], [], []), (["-cd", "mine"], [], []), (["--help"], ["--help"], []),
    (["--info", "defaults"], ["--info", "defaults"], []), (["--info"], ["--info", "all"], []),
    (["--cfg=job", "-p", "model", "--resolve"], ["--cfg", "job", "--resolve", "--package", "model"], []),
    (["model=tiny"], [], ["model=tiny"]), (["~debug"], [], ["~debug"]), (["+optim.x=1"], [], ["+optim.x=1"]),
    (["name=--seed"], [], ["name=--seed"]), ([], [], []),
])  # fmt: skip
def test_flags_and_overrides_are_told_apart(typed, flags, overrides):
    found = read_command_line(typed)
    assert (found.questions, found.overrides) == (flags, overrides)
    assert found.multirun == bool({"-m", "--multirun"} & set(typed))


@pytest.mark.parametrize(
    "typed", [["--nonsense=1"], ["--cfg", "jobs"], ["-m", "--cfg", "job"], ["--resolve"], ["-cn=mine"]]
)
def test_a_flag_that_is_none_ends_the_command_with_status_2(typed):
    with pytest.raises(SystemExit) as ended:
        read_command_line(typed)
    assert ended.value.code == 2


def test_a_flag_with_the_last_name_of_a_setting_is_told_its_whole_name():
    with pytest.raises(ConfigError, match=r"write optim.lr=3e-4"):
        read_command_line(["--lr=3e-4"])
    with pytest.raises(ConfigError, match=r"write trainer.max_tokens=\.\.\."):
        read_command_line(["--max_tokens"])


@pytest.mark.parametrize("values", ["range(1,4)", "1e-3,3e-3", "choice(1e-3,3e-3)", "interval(1,2)"])
def test_several_values_without_m_are_told_at_their_path(values):
    from hydra import compose, initialize_config_dir
    from hydra.errors import ConfigCompositionException

    from atomiclm.config.plugins import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(ConfigCompositionException) as raised:
        compose("config", [f"optim.lr={values}"])
    fault = explain(raised.value, [])
    assert fault.path == "optim.lr"
    assert fault.message.startswith(f"{values} lists several values; add -m to run each")
