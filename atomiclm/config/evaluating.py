"""A run opened for evaluation: what its figures hang on first, its model only when something is to be measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from atomiclm.config.build import build
from atomiclm.config.load import TrainedModel, checked_model, load_run, prepare_corpus, say_aloud
from atomiclm.config.model_overrides import changed_settings, with_model_settings, with_weights_of
from atomiclm.evaluation import Conditions, EvaluationProtocol, EvaluationResult, Subject
from atomiclm.evaluation.results import result_path
from atomiclm.tracking import RunFolder
from atomiclm.training import Runtime, Trainer
from atomiclm.training.checkpoint import newest_sound, read_manifest
from atomiclm.user_error import UserError, from_user


@dataclass(frozen=True)
class LoadedRun:
    """A run, one checkpoint of it, and the conditions of looking at it.

    values: its configuration, with the settings that are changed
    changed: those, by dotted name below `model`
    weights_sha256: of the checkpoint's weights, as its manifest says
    """

    folder: RunFolder
    checkpoint: Path
    runtime: Runtime
    trainer: Trainer
    conditions: Conditions
    values: dict[str, Any]
    weights_sha256: str
    changed: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: RunFolder, checkpoint: Path | None, device: Any, source: str = "", overrides: Sequence[str] = ()
    ) -> Self:
        """Read what decides figures. device: "auto", "cpu", ...; overrides: see `with_model_settings`.

        Raises:
            ValueError: the run cannot be used, the device is not there, its text is no longer what it was, or the
                overrides are refused.
        """
        with from_user():
            runtime = Runtime(device=device)
        own = _configuration(folder)
        values = with_model_settings(own, overrides) if overrides else own
        trainer: Trainer = build(own["trainer"])
        corpus = prepare_corpus({**own, "cache_dir": None})  # on this machine, whatever the machine that trained had
        _same_text(folder, corpus.manifest)
        path = checkpoint or newest_sound(folder, say_aloud)
        conditions = Conditions(
            corpus,
            context_length=values["model"]["context_length"],
            trained_length=own["model"]["context_length"],
            separate_documents=trainer.separate_documents,
            precision=str(runtime.dtype(trainer.precision)).removeprefix("torch."),
            source=source,
        )
        changed = changed_settings(own["model"], values["model"])
        return cls(folder, path, runtime, trainer, conditions, values, _weights(path), changed)

    def path_of(self, protocol: EvaluationProtocol) -> Path:
        """Where the answer of a protocol is kept; ValueError where it does not fit the run."""
        return result_path(self.folder.path, protocol.describe(self.conditions), self.weights_sha256, self.changed)

    def measured(self, protocol: EvaluationProtocol, batch_size: int) -> EvaluationResult:
        """Ask it. batch_size: windows of the context trained on in one forward pass."""
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
        trained = load_run(self.folder, self.checkpoint, self.runtime.device)
        if self.conditions.corpus.tokenizer.digest() != trained.tokenizer.digest():
            raise UserError(
                f"{self.folder.path}: its corpus has changed since it was trained: the tokenizer is another one"
            )
        return with_weights_of(trained, self.values) if self.changed else trained


def _configuration(folder: RunFolder) -> dict[str, Any]:
    values = folder.read_config()
    try:
        return {**values, "model": checked_model(values.get("model"))}
    except UserError as error:
        raise UserError(f"{folder.path} cannot be used: {' '.join(str(error).split())}") from error


def _same_text(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Text that was trained on may now be held out, and the figure would say nothing."""
    known = folder.read_summary().get("validation_sha256")
    if known not in (None, manifest["validation_sha256"]):
        raise UserError(
            f"{folder.path}: its corpus has changed since it was trained: the validation bytes are others "
            f"({known[:12]}, now {manifest['validation_sha256'][:12]}); restore the text"
        )


def _weights(checkpoint: Path) -> str:
    return str(read_manifest(checkpoint)["files"]["model.safetensors"]["sha256"])
