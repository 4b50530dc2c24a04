"""A `config.json` that notices what nobody read: an option that is not understood must not be ignored in silence."""

from collections.abc import Mapping
from typing import Any

from atomiclm.interop.huggingface.values import check_value
from atomiclm.user_error import UserError

HARMLESS = frozenset(
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


class Settings:
    """Keys of a configuration, each marked as it is read; ``finish`` raises for those left over.

    config    the parsed JSON
    where     what messages call it, such as "config.json" or "config.json: rope_parameters"
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where
        self._read: set[str] = set(HARMLESS)

    def get(self, key: str, default: Any = None) -> Any:
        """The value; ``default``, which should be transformers' own, where it is absent or null.

        Raises:
            ValueError: it is not of the kind that the key holds; so do the methods below.
        """
        value = self.optional(key, None)
        return default if value is None else value

    def optional(self, key: str, default: Any) -> Any:
        """The value, None where it is null, which says something; ``default`` where it is absent."""
        self._read.add(key)
        check_value(self.where, key, self.config.get(key))
        return self.config.get(key, default)

    def need(self, key: str) -> Any:
        """The value.

        Raises:
            ValueError: it is absent.
        """
        if self.config.get(key) is None:
            raise UserError(f"{self.where}: {key} is missing; without it the model cannot be built")
        return self.get(key)

    def only(self, key: str, *allowed: Any, default: Any = None) -> Any:
        """The value, if it is one of ``allowed`` (or absent).

        Raises:
            ValueError: it is another, which would change the function.
        """
        value = self.get(key, default)
        if value is not None and value not in allowed:
            shown = " or ".join(repr(one) for one in allowed) or "absent"
            raise UserError(f"{self.where}: {key}={value!r:.100} cannot be read; only {shown} is known here")
        return value

    def finish(self) -> None:
        """Raise for keys that were neither read nor known to be harmless; null is as good as absent.

        Raises:
            ValueError: naming them.
        """
        unread = [key for key, value in self.config.items() if key not in self._read and value is not None]
        if unread:
            shown = ", ".join(
                f"{key if key.isprintable() else ascii(key):.60}={self.config[key]!r:.60}" for key in unread[:8]
            )
            raise UserError(
                f"{self.where}: {shown} not understood, and a model read without it may be another one; "
                "remove it from the file if it changes nothing"
            )
