"""What decides an evaluation's figures, in words and as a hash, so that unlike figures are never put side by side.

How a model is looked at can move its figure by more than what is in the model: windows that slide by 64 tokens in place
of windows end to end took 0.032 bits per byte off a published record (openai/parameter-golf, 2026). So every figure
says how it came about, in two halves:

compared    what must agree before two figures may meet: the protocol and its settings, the validation bytes, documents
            apart or not; and where a protocol counts in tokens, the tokenizer
recorded    what may differ because it belongs to an arm: its context, its precision, its tokenizer, its source's name.
            Bits per byte over the same bytes are comparable between tokenizers, and a study of contexts compares runs
            of several contexts; but a difference there is worth a word (`cautions`)

Batch size and device are in neither half: they change the order of floating-point sums and nothing else. Torch-free.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_HASH_CHARACTERS = 8
_SHOWN_CHARACTERS = 12  # of a sha256 in a message

_WORDS = {
    "validation_sha256": "validation bytes",
    "separate_documents": "documents apart",
    "tokenizer_sha256": "tokenizer",
    "context_length": "context_length",
    "precision": "precision",
}


@dataclass(frozen=True)
class Described:
    """How figures came about.

    name: the protocol's
    compared, recorded: see this module; JSON values
    """

    name: str
    compared: Mapping[str, Any]
    recorded: Mapping[str, Any]

    @property
    def comparability(self) -> str:
        """`name-hash` over what is compared: figures meet when theirs are equal. A run's `validation/protocol`."""
        return f"{self.name}-{content_hash({'protocol': self.name, **self.compared})}"

    @property
    def fingerprint(self) -> str:
        """`name-hash` over both halves: equal figures of one model are to be expected when theirs are equal."""
        return f"{self.name}-{content_hash(self.facts())}"

    def facts(self) -> dict[str, Any]:
        """As a JSON object; `from_facts` is the inverse."""
        return {"protocol": self.name, "compared": dict(self.compared), "recorded": dict(self.recorded)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Raise ValueError unless these are what `facts` gave."""
        parts = (facts.get("protocol"), facts.get("compared"), facts.get("recorded"))
        match parts:
            case (str() as name, Mapping() as compared, Mapping() as recorded):
                return cls(name, compared, recorded)
        raise ValueError(f"no description of a protocol: it needs protocol, compared and recorded, it has {[*facts]}")


def content_hash(value: Any) -> str:
    """The first characters of the sha256 of a JSON value; keys sorted, so that their order says nothing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]


def differences(one: Described, other: Described) -> list[str]:
    """Why figures of the two must not be compared, one line a reason; empty: they may be."""
    if one.name != other.name:
        return [f"protocol: {one.name} against {other.name}"]
    return _unequal(one.compared, other.compared, sorted({*one.compared, *other.compared}), one, other)


def cautions(one: Described, other: Described) -> list[str]:
    """What differs and may, but a reader should know of; what only one of the two says is not known to differ."""
    keys = [key for key in ("context_length", "precision", "tokenizer_sha256") if key in one.recorded]
    return _unequal(one.recorded, other.recorded, [key for key in keys if key in other.recorded], one, other)


def recorded_protocol(
    summary: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any]
) -> Described | None:
    """How the validation figures of a run came about, from its summary.json, config.yaml and environment.json.

    config: under dotted names ("model.context_length"), as `tracking.run_result` has it

    A summary of today says it (`protocol`). One from before protocols were written down is of the only protocol there
    was, end-to-end windows over the whole split, whose settings stand in these files. None: the run has no validation
    split on record (it ended before its summary had one).
    """
    if "protocol" in summary:
        return Described.from_facts(summary["protocol"])
    if "validation_sha256" not in summary:
        return None
    processes = environment.get("processes") or [environment]
    recorded = {"context_length": config.get("model.context_length"), "precision": processes[-1].get("precision")}
    return end_to_end(
        summary["validation_sha256"],
        # Written by validation since documents could be kept apart; the configuration says it too, before the first.
        bool(summary.get("validation/separate_documents", config.get("trainer.separate_documents", False))),
        {key: value for key, value in recorded.items() if value is not None},
    )


def end_to_end(validation_sha256: str, separate_documents: bool, recorded: Mapping[str, Any]) -> Described:
    """The protocol of a run's own validation: `data.validation`'s windows, end to end."""
    compared = {"revision": 1, "validation_sha256": validation_sha256, "separate_documents": separate_documents}
    return Described("bits_per_byte", compared, recorded)


def _unequal(
    these: Mapping[str, Any], those: Mapping[str, Any], keys: list[str], one: Described, other: Described
) -> list[str]:
    return [
        f"{_WORDS.get(key, key)}: {_shown(these, key, one)} against {_shown(those, key, other)}"
        for key in keys
        if these.get(key) != those.get(key)
    ]


def _shown(half: Mapping[str, Any], key: str, described: Described) -> str:
    if key not in half:
        return "nothing on record"
    text = str(half[key])
    if key.endswith("_sha256"):
        text = text[:_SHOWN_CHARACTERS]
    source = described.recorded.get("source")
    return f"{text} (source {source})" if key == "validation_sha256" and source else text
