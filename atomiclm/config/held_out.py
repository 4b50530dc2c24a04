"""`held_out=dev`: a run scored on a part of the training text; written into its `data` as if it had been given."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

_WRAPPER = "atomiclm.data.DevSplit"
_MIXTURE = "atomiclm.data.Mixture"


def apply_held_out(config: DictConfig) -> None:
    """Wrap the corpus of `config` in a DevSplit where the dev split is asked for; each source of a mixture."""
    if config.get("held_out") == "dev" and isinstance(config.get("data"), DictConfig):
        data = OmegaConf.to_container(config.data, resolve=False)
        OmegaConf.update(config, "data", _wrapped(data), merge=False)


def _wrapped(node: Any) -> Any:
    if not isinstance(node, dict) or node.get("_target_") == _WRAPPER:
        return node
    if node.get("_target_") == _MIXTURE and isinstance(node.get("sources"), dict):
        return {**node, "sources": {name: _wrapped(source) for name, source in node["sources"].items()}}
    return {"_target_": _WRAPPER, "source": node}
