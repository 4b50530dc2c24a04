"""A setting that is typed as a flag is told how it is written, whatever the number of dashes."""

import pytest

from atomiclm.config.composition_faults import composition_fault
from atomiclm.config.errors import ConfigError
from atomiclm.config.search_path import register_plugins
from atomiclm.config.typed import check_dashes, check_unknown_flags


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
        check_dashes(typed)
    assert advice in str(raised.value)


def test_every_such_setting_is_told():
    with pytest.raises(ConfigError, match="2 faults"):
        check_dashes(["--model=tiny", "--seed=1"])


@pytest.mark.parametrize("typed", [
    ["-m", "seed=1,2"], ["--multirun"], ["--cfg", "job"], ["-c", "job"], ["--config-dir=mine"], ["-cd", "mine"],
    ["--help"], ["--info", "defaults"], ["--nonsense=1"], ["model=tiny"], ["~debug"], ["+optim.x=1"],
    ["-sc", "install=bash"], ["name=--seed"], [],
])  # fmt: skip
def test_flags_and_settings_pass(typed):
    check_dashes(typed)


def test_a_flag_with_the_last_name_of_a_setting_is_told_its_whole_name():
    register_plugins()
    with pytest.raises(ConfigError, match=r"did you mean the setting optim.lr=3e-4, without dashes"):
        check_unknown_flags(["--lr=3e-4"])
    with pytest.raises(ConfigError, match=r"did you mean the setting trainer.max_tokens=\.\.\., without"):
        check_unknown_flags(["--max_tokens"])
    check_unknown_flags(["--nonsense=1"])


@pytest.mark.parametrize("values", ["range(1,4)", "1e-3,3e-3", "choice(1e-3,3e-3)", "interval(1,2)"])
def test_several_values_without_m_are_told_at_their_path(values):
    from hydra import compose, initialize_config_dir
    from hydra.errors import ConfigCompositionException

    from atomiclm.config.paths import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(ConfigCompositionException) as raised:
        compose("config", [f"optim.lr={values}"])
    fault = composition_fault(raised.value, [])
    assert fault.path == "optim.lr"
    assert fault.message.startswith(f"{values} lists several values; add -m for a run of each")
