"""What a run folder records of a bad step, and how the run rewinds to a checkpoint."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from atomiclm.data import Batch
from atomiclm.training import checkpoint
from atomiclm.training.bad_steps import Action, BadStep
from atomiclm.training.hooks import Log
from atomiclm.training.saving import SaveCheckpoints
from atomiclm.training.state import TrainState


class FolderRecovery:
    """Bad steps of one run, each noted and its batch saved.

        bad_steps/batch_00000123/
            batch.safetensors       inputs, targets and, where there are any, mask and documents: (batch, time)
            facts.json              step, reason, loss, gradient norm, which gradients are not finite, action

    Args:
        folder: `bad_steps` of the run.
        saver: of the run's checkpoints.
        log: takes the row.
        say: takes the line for people.
        text: a batch's inputs as text, one a row, for facts.json.
    """

    def __init__(
        self,
        folder: Path,
        saver: SaveCheckpoints,
        log: Log,
        say: Callable[[str], None],
        text: Callable[[Batch], list[str]],
    ) -> None:
        self.folder = folder
        self.saver = saver
        self.log = log
        self.say = say
        self.text = text

    def note(self, state: TrainState, bad: BadStep, action: Action) -> None:
        """Save the batch, write the row, report it."""
        place = self.folder / f"batch_{bad.index:08d}"
        done = {"stop": "the run stops", "skip": "the batch is skipped", "rewind": "the run rewinds"}[action]
        self.say(f"bad step {state.step} (batch {bad.index}): {bad}; {done}; batch saved in {place}")
        row = {"batch": bad.index, "reason": bad.reason, "loss": bad.loss, "gradient_norm": bad.gradient_norm}
        self.log({"event": "bad_step", **state.position(), **row, "action": action})
        facts = {"step": state.step, **row, "action": action, "gradients": bad.gradients, "text": self.text(bad.batch)}
        try:
            _keep(place, bad.batch, facts)
        except OSError as error:
            self.say(f"the batch of the bad step was not saved: {error}")

    def rewind(self, state: TrainState) -> None:
        """Go back to the newest rewind point."""
        self.saver.wait()
        step = state.step
        checkpoint.rewind(state, self.saver.folder, self.say)
        self.say(f"rewound from step {step} to step {state.step}")


def _keep(place: Path, batch: Batch, facts: dict[str, Any]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    arrays = {"inputs": batch.inputs, "targets": batch.targets, "mask": batch.mask, "documents": batch.documents}
    tensors = {name: torch.from_numpy(array).contiguous() for name, array in arrays.items() if array is not None}
    (place / "batch.safetensors").write_bytes(safetensors.torch.save(tensors))
    written = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in facts.items()
    }
    (place / "facts.json").write_text(json.dumps(written, indent=2, allow_nan=False) + "\n", encoding="utf-8")
