"""Branching: a new run that goes on from the checkpoint of another, its trunk.

What it is for: a trunk trained at a constant learning rate serves several budgets, each with a decay of its own that
starts from one of the trunk's checkpoints (Hagele et al. 2024, arXiv:2405.18392), or another change from there on. The
branch takes over weights, optimizer state, position (step, tokens, seconds, FLOPs) and random state, and its data go on
at that step: it is the run that would have come of the trunk, had its configuration become the branch's at that step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from atomiclm.data import PreparedCorpus
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import RunFolder, find_run
from atomiclm.training import Budget, TrainState, checkpoint
from atomiclm.user_error import UserError

_SAME = ("data", "trainer.batch_size", "trainer.order", "trainer.separate_documents", "model.context_length")
"""What decides which tokens a step reads."""


@dataclass(frozen=True)
class Trunk:
    """The checkpoint that `trainer.branch_from` names, read and found fit for a run to go on from.

    path: of the checkpoint
    corpus_sha256: of the text that the trunk was trained on
    tokenizer_sha256: of its tokenizer
    """

    path: Path
    corpus_sha256: str | None
    tokenizer_sha256: str

    @classmethod
    def find(cls, values: Mapping[str, Any]) -> Self:
        """Find the trunk of the run that `values` configure, and judge all that can be judged before its text is read.

        Raises:
            UserError: there is no such checkpoint, it is damaged, or a run of this configuration cannot go on from it;
                the message says why.
        """
        trainer = values["trainer"]
        with _named():
            folder, path = find_run(trainer["branch_from"], values["output_dir"])
            summary = folder.read_summary()
            path = path or _last_checkpoint(folder, summary)
            if reasons := list(differences(folder.read_config(), values)):
                raise UserError(f"{path} cannot be gone on from: {'; '.join(reasons)}")
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
        """Raise UserError unless the text is the one that the trunk was trained on."""
        if self.corpus_sha256 != corpus_sha256:
            with _named():
                raise UserError(f"{self.path} cannot be gone on from: the trunk was trained on another text")

    def restore(self, state: TrainState, corpus: PreparedCorpus) -> None:
        """Take its weights, optimizer state, position and random state into `state`; of its metrics nothing.

        Raises:
            UserError: the tokenizer is another one, or the model's weights have other shapes.
        """
        with _named():
            if self.tokenizer_sha256 != corpus.tokenizer.digest():
                rule = "the trunk's tokenizer is another one: its embeddings belong to other tokens"
                raise UserError(f"{self.path} cannot be gone on from: {rule}")
            content = checkpoint.read(self.path)
            state.restore(content.scalars, content.model, content.optimizer)
        state.latest, state.validated, state.best, state.unfinished = {}, None, None, None


@contextmanager
def _named() -> Iterator[None]:
    """Let what is refused name the setting."""
    try:
        yield
    except (OSError, UserError) as error:
        raise UserError(f"trainer.branch_from: {error}") from error


def _last_checkpoint(folder: RunFolder, summary: Mapping[str, Any]) -> Path:
    found = checkpoint.candidates(folder.checkpoints)
    if summary.get("state") != "done" or not found:
        names = ", ".join(path.name for path in found) or "it has none yet"
        raise UserError(f"{folder.path} has not ended, so name one of its checkpoints: {names}")
    return found[0]


def differences(trunk: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a run of configuration `values` cannot go on from a checkpoint of `trunk`; nothing when it can.

    The learning rate and other settings of the optimizer, the schedule, the budget, the objective, clipping, precision,
    the average of the weights, and what of the model has no weights (dropout, a rope's theta) may differ. The class of
    the optimizer may not, since its state is taken over. That the shapes fit is for `TrainState.restore` to say.
    """
    for key in _SAME:
        for path, before, now in _leaves(key, _at(trunk, key), _at(values, key)):
            yield f"{path} was {before!r} in the trunk and is {now!r}, so the data would not go on where it stopped"
    before, now = trunk["optim"]["_target_"], values["optim"]["_target_"]
    if before != now:
        yield f"optim was {before.rpartition('.')[2]} in the trunk: its state means nothing to {now.rpartition('.')[2]}"


def _at(values: Mapping[str, Any], key: str) -> Any:
    group, _, name = key.partition(".")
    return values[group].get(name) if name else values[group]


def _leaves(path: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _leaves(f"{path}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield path, before, now
