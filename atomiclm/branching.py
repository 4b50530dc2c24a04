"""Branching: a new run that goes on from the checkpoint of another, its trunk.

What it is for: a trunk trained at a constant learning rate serves several budgets, each with a decay of its own that
starts from one of the trunk's checkpoints (Hagele et al. 2024, arXiv:2405.18392), or another change from there on. The
branch takes over weights, optimizer state, position (step, tokens, seconds, FLOPs) and random state, and its data go on
at that step: it is the run that would have come of the trunk, had its configuration become the branch's at that step.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atomiclm.data import PreparedCorpus
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import RunFolder, find_run
from atomiclm.training import Trainer, TrainState, checkpoint
from atomiclm.user_error import UserError

_SAME = ("data", "trainer.batch_size", "trainer.order", "trainer.separate_documents", "model.context_length")
"""What decides which tokens a step reads."""


def start_from_trunk(state: TrainState, trainer: Trainer, values: Mapping[str, Any], corpus: PreparedCorpus) -> Path:
    """Restore the checkpoint that `trainer.branch_from` names into `state`, and return its path.

    Of the metrics nothing is taken over: they are the trunk's.

    Raises:
        ValueError: there is no such checkpoint, it is damaged, or a run of this configuration cannot go on from it; the
            message says why.
    """
    assert trainer.branch_from is not None
    try:
        path = _restored(state, trainer.branch_from, values, corpus)
    except (OSError, UserError) as error:
        raise UserError(f"trainer.branch_from: {error}") from error
    state.latest, state.validated, state.best, state.unfinished = {}, None, None, None
    if trainer.budget.progress(state.step, state.seconds, trainer.batch_size * values["model"]["context_length"]) >= 1:
        raise UserError(
            f"trainer.branch_from: {path} is at step {state.step}, and the budget ends there or before; a budget is "
            "counted from the trunk's first step, give a larger one"
        )
    return path


def _restored(state: TrainState, text: str, values: Mapping[str, Any], corpus: PreparedCorpus) -> Path:
    folder, path = find_run(text, values["output_dir"])
    summary = folder.read_summary()
    path = path or _last_checkpoint(folder, summary)
    trunk = folder.read_config()
    reasons = list(differences(trunk, values))
    with folder.reading(folder.tokenizer):
        tokenizer = BasicTokenizer.load(folder.tokenizer)
    if tokenizer.digest() != corpus.tokenizer.digest():
        reasons.append("the trunk's tokenizer is another one: its embeddings belong to other tokens")
    if summary.get("corpus_sha256") != corpus.manifest["corpus_sha256"]:
        reasons.append("the trunk was trained on another text")
    if reasons:
        raise UserError(f"{path} cannot be gone on from: {'; '.join(reasons)}")
    content = checkpoint.read(path)
    state.restore(content.scalars, content.model, content.optimizer)
    return path


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
