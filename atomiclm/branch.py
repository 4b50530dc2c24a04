"""Branching: a new run that goes on from the checkpoint of another, its trunk.

A trunk trained at a constant learning rate serves several budgets, each with a decay of its own that starts from one of
the trunk's checkpoints (Hagele et al. 2024, arXiv:2405.18392). The branch is the run that would have come of the trunk,
had its configuration become the branch's at that step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from atomiclm.cli import UserError
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import find_run
from atomiclm.tracking.run_result import differences
from atomiclm.training import Budget, TrainState, checkpoint
from atomiclm.training.checkpoint import Snapshot


@dataclass(frozen=True)
class Trunk:
    """The checkpoint that `trainer.branch_from` names, and the text and tokenizer of its run."""

    path: Path
    content: Snapshot
    corpus_sha256: str | None
    tokenizer_sha256: str

    @classmethod
    def find(cls, values: Mapping[str, Any]) -> Self:
        """Find the trunk of a run, and check all that can be checked before the run's text is read.

        Raises:
            UserError: it is not there, damaged, or no run of this configuration can branch from it.
        """
        trainer = values["trainer"]
        with _refusals():
            folder, path = find_run(trainer["branch_from"], values["output_dir"])
            path = path or checkpoint.final_checkpoint(folder)
            if reasons := list(_reasons(folder.read_config(), values)):
                raise UserError(f"cannot branch from {path}: {'; '.join(reasons)}")
            with folder.reading(folder.tokenizer):
                tokenizer = BasicTokenizer.load(folder.tokenizer)
            content = checkpoint.read(path)
            budget = Budget(*(trainer[limit] for limit in ("max_steps", "max_tokens", "max_seconds")))
            step, tokens_per_step = content.scalars["step"], trainer["batch_size"] * values["model"]["context_length"]
            if budget.progress(step, content.scalars["seconds"], tokens_per_step) >= 1:
                raise UserError(
                    f"{path} is at step {step}, and the budget ends there or before; a budget is counted from the "
                    "first step of the run it branches from, give a larger one"
                )
        return cls(path, content, folder.read_summary().get("corpus_sha256"), tokenizer.digest())

    def check_text(self, corpus_sha256: str) -> None:
        if self.corpus_sha256 != corpus_sha256:
            raise UserError(f"trainer.branch_from: {self.path} was trained on another text")

    def restore(self, state: TrainState, tokenizer_sha256: str) -> None:
        """Take its weights, optimizer state, position and random state into `state`; of its metrics nothing.

        Raises:
            UserError: the tokenizer is another one, or the model's weights have other shapes.
        """
        with _refusals():
            if self.tokenizer_sha256 != tokenizer_sha256:
                raise UserError(f"the tokenizer is another one than that of {self.path}, whose embeddings it would use")
            state.restore(self.content.scalars, self.content.model, self.content.optimizer)
        state.latest, state.validated, state.best, state.unfinished = {}, None, None, None


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (OSError, UserError) as error:
        raise UserError(f"trainer.branch_from: {error}") from error


def _reasons(trunk: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a run of configuration `values` cannot go on from a checkpoint of `trunk`.

    Only what decides which tokens a step reads, and the class of the optimizer, must be the same. That the shapes
    fit is for `TrainState.restore` to say.
    """
    for path, (old, new) in differences(_data_settings(trunk), _data_settings(values)).items():
        yield f"{path} was {old!r} there and is {new!r}, so the data would not go on where it stopped"
    old, new = trunk["optim"]["_target_"], values["optim"]["_target_"]
    if old != new:
        yield f"optim was {old.rpartition('.')[2]} there: its state means nothing to {new.rpartition('.')[2]}"


def _data_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    trainer = {key: values["trainer"].get(key) for key in ("batch_size", "order", "separate_documents")}
    return {"data": values["data"], "trainer": trainer, "model": {"context_length": values["model"]["context_length"]}}
