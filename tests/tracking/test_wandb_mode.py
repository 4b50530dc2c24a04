"""Which mode the mirror takes, from the environment alone."""

import pytest

from atomiclm.tracking.wandb_mirror import choose_mode, has_key


@pytest.fixture(autouse=True)
def no_key(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def login(path, host):
    path.write_text(f"machine {host}\n  login user\n  password {'0' * 40}\n")
    path.chmod(0o600)


def test_auto_is_online_exactly_with_a_key(monkeypatch):
    assert choose_mode("auto") == ("offline", "")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert choose_mode("auto") == ("online", "")


@pytest.mark.parametrize(
    ("variable", "mode"),
    [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled"), ("online", "online"), ("run", "online")],
)
def test_auto_follows_the_variable(monkeypatch, variable, mode):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", variable)
    assert choose_mode("auto") == (mode, "")


def test_an_explicit_mode_wins_over_the_variable(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode("offline") == ("offline", "")


@pytest.mark.parametrize("variable", [None, "online"])
def test_online_without_a_key_never_prompts(monkeypatch, variable):
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    mode, reason = choose_mode("auto" if variable else "online")
    assert mode == "offline"
    assert "WANDB_API_KEY" in reason


def test_an_unknown_variable_is_said(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    mode, reason = choose_mode("auto")
    assert mode == "offline"
    assert "WANDB_MODE=onlin" in reason


def test_netrc_counts_for_its_own_host_only(no_key, monkeypatch):
    login(no_key / ".netrc", "wandb.example.org")
    assert not has_key()
    assert has_key("https://wandb.example.org")
    assert not has_key("https://other.example.org")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert has_key()
    monkeypatch.setenv("NETRC", str(no_key / "elsewhere"))
    assert not has_key()


def test_a_login_under_the_old_name_of_the_public_service(no_key):
    login(no_key / "_netrc", "api.wandb.ai")
    assert has_key("https://api.forge.coreweave.com")
    assert not has_key("https://wandb.example.org")


def test_a_netrc_that_cannot_be_read_is_no_key(no_key):
    (no_key / ".netrc").write_text("machine\n")
    assert not has_key()
