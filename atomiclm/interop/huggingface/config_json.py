"""A `config.json`: each key of its kind and within bounds, and none ignored that could make another model."""

from collections.abc import Mapping
from typing import Any

from atomiclm.cli import UserError

NEEDED = object()
"""The default of a key that must be there."""

MAX_SIZE = 1 << 24
"""A width, a vocabulary or a context is smaller (sixteen million; the longest context in use has ten)."""

_KINDS = {bool: "true or false", float: "a number", str: "a text", dict: "an object", list: "a list"}

_IGNORED = frozenset(
    (
        # What wrote the file, and how to hold the model in memory.
        "architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "auto_map",
        "use_cache", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward",
        "_attn_implementation", "attn_implementation", "pretraining_tp", "ep_size", "is_decoder", "torchscript",
        # How it was initialised and trained.
        "initializer_range", "attention_dropout", "hidden_dropout", "classifier_dropout", "resid_pdrop", "embd_pdrop",
        "attn_pdrop", "emb_pdrop", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise",
        "aux_loss_alpha", "seq_aux", "embedding_fraction", "num_nextn_predict_layers", "num_mtp_layers",
        # Special tokens, and heads for other tasks.
        "bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "is_encoder_decoder",
        "task_specific_params", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
        "summary_first_dropout",
    )
)  # fmt: skip
"""Keys that leave the function of the language model as it is, dropout and losses of training included."""


class ConfigJson:
    """Keys of a configuration, each marked as it is read; `finish` raises for those left over.

    `where` is what messages call it, such as "config.json" or "config.json: rope_parameters".
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where
        self._read: set[str] = set(_IGNORED)

    def get(self, key: str, default: Any = None, kind: type = int, null: bool = False, most: int = MAX_SIZE) -> Any:
        """The value; `default`, transformers' own, where it is absent, or null unless `null` says something.

        Raises UserError where it is `NEEDED` and absent, not of this kind, or an integer below 0 or above `most`.
        """
        self._read.add(key)
        value = self.config.get(key)
        if value is None and default is NEEDED:
            raise UserError(f"{self.where}: {key} is missing; without it the model cannot be built")
        if value is None:
            return None if null and key in self.config else default
        right_kind = type(value) in ((int, float) if kind is float else (kind,))
        too_large = right_kind and (
            (kind is int and not 0 <= value <= most) or (kind is float and not abs(value) < 1e300)
        )
        if not right_kind or too_large:
            rule = _KINDS.get(kind, f"an integer from 0 to {most}")
            raise UserError(f"{self.where}: {key}={value!r:.80} cannot be read; it must be {rule}")
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """Raise UserError unless the value is one of `allowed`, null or absent: any other changes the model."""
        self._read.add(key)
        value = self.config.get(key)
        if value is not None and value not in allowed:
            shown = " or ".join(repr(one) for one in allowed) or "absent"
            raise UserError(f"{self.where}: {key}={value!r:.100} cannot be read; only {shown} is supported")

    def ignore(self, key: str) -> None:
        self._read.add(key)

    def finish(self) -> None:
        """Raise UserError for keys that were neither read nor are known to change nothing; null counts as absent."""
        unread = [key for key, value in self.config.items() if key not in self._read and value is not None]
        if unread:
            shown = ", ".join(f"{ascii(key)[1:-1]:.60}={self.config[key]!r:.60}" for key in unread[:8])
            raise UserError(
                f"{self.where}: {shown} not understood, and a model read without it may be another one; "
                "remove it from the file if it changes nothing"
            )
