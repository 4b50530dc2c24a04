"""Mistral: Llama with a sliding window in every layer."""

from typing import Any

from atomiclm.interop.huggingface.llama import LlamaFamily, Window, windows_of
from atomiclm.interop.huggingface.settings import Settings
from atomiclm.model import Attention, Decoder


class Mistral(LlamaFamily):
    """Jiang et al. 2023, arXiv 2310.06825. No biases anywhere."""

    model_type = "mistral"
    class_name = "MistralForCausalLM"
    default_num_kv_heads = 8

    def read_attention(self, settings: Settings) -> dict[str, Any]:
        """Arguments of ``MultiHeadAttention``."""
        settings.only("attention_bias", False)
        return super().read_attention(settings)

    def read_window(self, settings: Settings) -> Window:
        """One window for all layers; null is none, and silence is 4096."""
        window: int | None = settings.optional("sliding_window", 4096)
        return window

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        """Keys of attention."""
        keys = super().write_attention(attention)
        del keys["attention_bias"]
        return keys

    def write_window(self, model: Decoder) -> dict[str, Any]:
        """Keys of the window."""
        return {"sliding_window": windows_of(model)[0]}

    def write_feedforward(self, model: Decoder) -> dict[str, Any]:
        """Keys of the feed-forward network."""
        keys = super().write_feedforward(model)
        del keys["mlp_bias"]
        return keys
