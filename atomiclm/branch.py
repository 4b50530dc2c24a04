"""Branching: a new run that goes on from the checkpoint of another, its trunk.

A trunk trained at a constant learning rate serves several budgets, each with a decay of its own that starts from one of
the trunk's checkpoints (Hagele et al. 2024, arXiv:2405.18392). The branch takes over weights, optimizer state, position
(step, tokens, seconds, FLOPs) and random state, and its data go on at that step: it is the run that would have come of
the trunk, had its configuration become the branch's at that step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from atomiclm.cli import UserError
from atomiclm.data import PreparedCorpus
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import find_run
from atomiclm.training import Budget, TrainState, checkpoint


@dataclass(frozen=True)
class Trunk:
    """The checkpoint that `trainer.branch_from` names.

    Attributes:
        path: of the checkpoint.
        corpus_sha256: of the text that the trunk was trained on.
        tokenizer_sha256: of its tokenizer.
    """

    path: Path
    corpus_sha256: str | None
    tokenizer_sha256: str

    @classmethod
    def find(cls, values: Mapping[str, Any]) -> Self:
        """Find the trunk of a run, and check all that can be checked before the run's text is read.

        Raises:
            UserError: there is no such checkpoint, it is damaged, or a run of this configuration cannot branch from it.
        """
        trainer = values["trainer"]
        with _naming_the_setting():
            folder, path = find_run(trainer["branch_from"], values["output_dir"])
            summary = folder.read_summary()
            if path is None:
                saved = checkpoint.checkpoints_in(folder.checkpoints)
                if summary.get("state") != "done" or not saved:
                    names = ", ".join(one.name for one in saved) or "it has none yet"
                    raise UserError(f"{folder.path} has not ended, so name one of its checkpoints: {names}")
                path = saved[0]
            if reasons := list(_differences(folder.read_config(), values)):
                raise UserError(f"cannot branch from {path}: {'; '.join(reasons)}")
            with folder.reading(folder.tokenizer):
                tokenizer = BasicTokenizer.load(folder.tokenizer)
            position = checkpoint.read(path).scalars
            budget = Budget(*(trainer[limit] for limit in ("max_steps", "max_tokens", "max_seconds")))
            step, tokens_per_step = position["step"], trainer["batch_size"] * values["model"]["context_length"]
            if budget.progress(step, position["seconds"], tokens_per_step) >= 1:
                raise UserError(
                    f"{path} is at step {step}, and the budget ends there or before; a budget is counted from the "
                    "trunk's first step, give a larger one"
                )
        return cls(path, summary.get("corpus_sha256"), tokenizer.digest())

    def refuse_other_text(self, corpus_sha256: str) -> None:
        if self.corpus_sha256 != corpus_sha256:
            with _naming_the_setting():
                raise UserError(f"cannot branch from {self.path}: the trunk was trained on another text")

    def restore(self, state: TrainState, corpus: PreparedCorpus) -> None:
        """Take its weights, optimizer state, position and random state into `state`; of its metrics nothing.

        Raises:
            UserError: the tokenizer is another one, or the model's weights have other shapes.
        """
        with _naming_the_setting():
            if self.tokenizer_sha256 != corpus.tokenizer.digest():
                reason = "the trunk's tokenizer is another one: its embeddings belong to other tokens"
                raise UserError(f"cannot branch from {self.path}: {reason}")
            content = checkpoint.read(self.path)
            state.restore(content.scalars, content.model, content.optimizer)
        state.latest, state.validated, state.best, state.unfinished = {}, None, None, None


@contextmanager
def _naming_the_setting() -> Iterator[None]:
    try:
        yield
    except (OSError, UserError) as error:
        raise UserError(f"trainer.branch_from: {error}") from error


def _differences(trunk: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a run of configuration `values` cannot go on from a checkpoint of `trunk`; nothing when it can.

    The learning rate and other settings of the optimizer, the schedule, the budget, the objective, clipping, precision,
    the average of the weights, and what of the model has no weights (dropout, a rope's theta) may differ. The class of
    the optimizer may not, since its state is taken over. That the shapes fit is for `TrainState.restore` to say.
    """
    before, now = dict(_data_settings(trunk)), dict(_data_settings(values))
    for path in dict.fromkeys([*before, *now]):
        old, new = before.get(path), now.get(path)
        if old != new:
            yield f"{path} was {old!r} in the trunk and is {new!r}, so the data would not go on where it stopped"
    old, new = trunk["optim"]["_target_"], values["optim"]["_target_"]
    if old != new:
        yield f"optim was {old.rpartition('.')[2]} in the trunk: its state means nothing to {new.rpartition('.')[2]}"


def _data_settings(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what decides which tokens a step reads, each leaf with its path."""
    trainer = {key: values["trainer"].get(key) for key in ("batch_size", "order", "separate_documents")}
    left = [("data", values["data"]), ("trainer", trainer)]
    while left:
        path, node = left.pop()
        if isinstance(node, Mapping):
            left += [(f"{path}.{key}", value) for key, value in node.items()]
        else:
            yield path, node
    yield "model.context_length", values["model"]["context_length"]
