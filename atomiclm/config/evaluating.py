"""A run opened for evaluation, under its own settings or with some of its model's changed, its weights as they are."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from atomiclm.cli import UserError, from_user
from atomiclm.config.build import PARTIAL, build
from atomiclm.config.compose import choose_parts, resolved
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.load import TrainedRun, load_run, prepare_corpus, read_values, say_aloud
from atomiclm.config.validate import Check
from atomiclm.evaluation import Conditions, EvaluationProtocol, EvaluationResult, Subject
from atomiclm.evaluation.results import result_path
from atomiclm.tracking import RunFolder
from atomiclm.tracking.run_result import differences
from atomiclm.training import Runtime, Trainer
from atomiclm.training.checkpoint import newest_sound, read_manifest
from atomiclm.training.runtime import Device


class LoadedRun:
    """A run, one checkpoint of it, and the conditions of evaluating it; its model is loaded when something is measured.

    checkpoint: None: the newest that is whole
    source: of a mixture, the one to look at alone; "" = all
    overrides: of settings of the model, see `with_model_settings`
    """

    def __init__(
        self, folder: RunFolder, checkpoint: Path | None, device: Device, source: str, overrides: Sequence[str]
    ) -> None:
        with from_user():
            self.runtime = Runtime(device=device)
        self.folder, self.device = folder, device
        own = read_values(folder)
        self.values = with_model_settings(own, overrides) if overrides else own
        changed = sorted(differences(own["model"], self.values["model"]).items())
        self.changed = {key: now for key, (_, now) in changed if not key.endswith(PARTIAL)}
        if isinstance(own["tokenizer"], dict) and own["tokenizer"].get("sha256"):  # it came with other weights
            own["tokenizer"] = {**own["tokenizer"], "path": str(folder.tokenizer)}
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
    def _trained(self) -> TrainedRun:
        changed = self.values if self.changed else None
        trained = load_run(self.folder, self.checkpoint, self.device, changed)
        if self.conditions.corpus.tokenizer.digest() != trained.tokenizer.digest():
            raise UserError(
                f"{self.folder.path}: its corpus has changed since it was trained: the tokenizer is another one"
            )
        return trained


def with_model_settings(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a run's configuration with settings of its model changed, validated like any other.

    `model.position.factor=4` sets a value; `model/position=yarn` puts an option in the place of a component, as
    `choose_parts` does. Options come first, values after them, in whatever order they are given.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError([Fault("--set", f"cannot be read: {str(error).splitlines()[0]}")]) from error
    if faults := [Fault(one.key_or_group, rule) for one in parsed if (rule := _rule(one))]:
        raise ConfigError(faults)
    config = OmegaConf.create({**values})
    choose_parts(config, [one for one in parsed if "/" in one.key_or_group])
    for one in parsed:
        if "/" not in one.key_or_group:
            OmegaConf.update(config, one.key_or_group, one.value(), force_add=True)
    changed = resolved(config)
    check = Check()
    check.node("model", changed["model"])
    check.end()
    return changed


def _rule(override: Override) -> str | None:
    """The rule that an override breaks."""
    key = override.key_or_group
    if key == "model":
        return "would be another model; --set changes parts of it: model/PART=OPTION"
    if not key.startswith(("model.", "model/")):
        return "is no setting of the model; --set changes model.KEY=VALUE or model/PART=OPTION"
    if override.is_delete() or override.is_sweep_override():
        return "sets no single value; give one value, and null for none"
    return None
