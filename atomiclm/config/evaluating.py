"""A run opened for evaluation: what its figures hang on first, its model only when something is to be measured."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError, from_user
from atomiclm.config.build import build
from atomiclm.config.load import TrainedModel, load_run, prepare_corpus, read_values, say_aloud
from atomiclm.config.model_overrides import changed_settings, with_model_settings
from atomiclm.evaluation import Conditions, EvaluationProtocol, EvaluationResult, Subject
from atomiclm.evaluation.results import result_path
from atomiclm.tracking import RunFolder
from atomiclm.training import Runtime, Trainer
from atomiclm.training.checkpoint import newest_sound, read_manifest


class LoadedRun:
    """A run, one checkpoint of it, and the conditions of evaluating it.

    checkpoint: None: the newest that is whole
    device: "auto", "cpu", ...
    source: of a mixture, the one to look at alone; "" = all
    overrides: of settings of the model, see `with_model_settings`

    Raises ValueError where the run cannot be used, the device is not there, its text is no longer what it was, or the
    overrides are refused.
    """

    def __init__(
        self, folder: RunFolder, checkpoint: Path | None, device: Any, source: str = "", overrides: Sequence[str] = ()
    ) -> None:
        with from_user():
            self.runtime = Runtime(device=device)
        self.folder = folder
        own = read_values(folder)
        self.values = with_model_settings(own, overrides) if overrides else own
        self.changed = changed_settings(own["model"], self.values["model"])
        self.trainer: Trainer = build(own["trainer"])
        corpus = prepare_corpus({**own, "cache_dir": None})  # on this machine, whatever the machine that trained had
        known, found = folder.read_summary().get("validation_sha256"), corpus.manifest["validation_sha256"]
        if known not in (None, found):  # text that was trained on may now be held out
            raise UserError(
                f"{folder.path}: its corpus has changed since it was trained: the validation bytes are others "
                f"({known[:12]}, now {found[:12]}); restore the text"
            )
        self.checkpoint = checkpoint or newest_sound(folder, say_aloud)
        self.weights_sha256 = str(read_manifest(self.checkpoint)["files"]["model.safetensors"]["sha256"])
        self.conditions = Conditions(
            corpus,
            context_length=self.values["model"]["context_length"],
            trained_length=own["model"]["context_length"],
            separate_documents=self.trainer.separate_documents,
            precision=str(self.runtime.dtype(self.trainer.precision)).removeprefix("torch."),
            source=source,
        )

    @property
    def knows_answers(self) -> bool:
        return any(part.validation.answers is not None for part in self.conditions.parts)

    def path_of(self, protocol: EvaluationProtocol) -> Path:
        """Where the result of a protocol is saved; ValueError where it does not fit the run."""
        return result_path(self.folder.path, protocol.describe(self.conditions), self.weights_sha256, self.changed)

    def measured(self, protocol: EvaluationProtocol, batch_size: int) -> EvaluationResult:
        """batch_size: windows of the context trained on in one forward pass."""
        model = self._trained.model
        subject = Subject(
            model,
            self.trainer.forward(model, self.runtime),  # in the precision it was trained and validated in
            self.runtime.device,
            batch_size * self.conditions.trained_length,
        )
        return EvaluationResult(
            protocol.describe(self.conditions),
            self.checkpoint.name,
            self.weights_sha256,
            self.changed,
            protocol.measure(subject, self.conditions),
        )

    @cached_property
    def _trained(self) -> TrainedModel:
        changed = self.values if self.changed else None
        trained = load_run(self.folder, self.checkpoint, self.runtime.device, changed)
        if self.conditions.corpus.tokenizer.digest() != trained.tokenizer.digest():
            raise UserError(
                f"{self.folder.path}: its corpus has changed since it was trained: the tokenizer is another one"
            )
        return trained
