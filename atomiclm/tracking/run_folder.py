"""Where the parts of one run lie on disk, and how a run is found from what a person types."""

import difflib
import itertools
import math
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atomiclm.atomic_io import read_file
from atomiclm.cli import UserError
from atomiclm.tracking.record import DamagedRow, read_metrics, read_summary

CHECKPOINT_NAME = re.compile(r"step_(\d{8,18})")
_DIGEST = re.compile(r"-[0-9a-f]{12}$")  # of a run id; a folder that was renamed has none

# Of a configuration, which may come from a stranger. YAML's parser calls itself at each level, and ten lines of aliases
# can come to more values than there is memory.
MAX_YAML_BYTES, MAX_LEVELS, MAX_VALUES = 1_000_000, 50, 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class RunFolder:
    """The named paths of one run, `outputs/<name>/<run_id>/`; creates nothing by itself."""

    path: Path

    def __post_init__(self) -> None:
        self.run_id = self.path.name
        self.name = self.path.absolute().parent.name
        self.config = self.path / "config.yaml"  # resolved, complete and reloadable
        self.environment = self.path / "environment.json"  # versions, commit, machine of each process that trained it
        self.metrics = self.path / "metrics.jsonl"  # the record, one JSON object a line
        self.summary = self.path / "summary.json"  # final figures and state
        self.checkpoints = self.path / "checkpoints"
        self.bad_steps = self.path / "bad_steps"  # the batches of steps that could not be taken
        self.tokenizer = self.path / "tokenizer.json"  # a copy, so that the folder is complete without its neighbours
        self.profile = self.path / "profile.json"  # torch's trace of a few steps, where runtime.profile asks for one
        self.wandb = self.path / "wandb"  # what the W&B mirror keeps on disk

    def looks_like_a_run(self) -> bool:
        """Whether at least one of the files that only a run writes is here (a killed run may lack the others)."""
        return any(file.is_file() for file in (self.config, self.environment, self.metrics, self.summary))

    def is_done(self) -> bool:
        with suppress(OSError, UserError):
            return read_summary(self.summary).get("state") == "done"
        return False

    def read_config(self) -> dict[str, Any]:
        with self.reading(self.config):
            return read_config_file(self.config)

    def read_summary(self) -> dict[str, Any]:
        with self.reading(self.summary):
            return read_summary(self.summary)

    def read_environments(self) -> list[dict[str, Any]]:
        """What each process that trained the run noted in environment.json, the last one last; at least one."""
        with self.reading(self.environment):
            processes = read_summary(self.environment).get("processes")
            if not isinstance(processes, list) or not processes or not all(isinstance(one, dict) for one in processes):
                raise UserError("'processes' is no list of what each process noted")
            return processes

    def read_rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a run that is done has at least that of a checkpoint."""
        with self.reading(self.metrics):
            rows = read_metrics(self.metrics)
        if not rows and self.read_summary().get("state") == "done":
            raise UserError(f"{self.metrics} is empty; {self.train_again()}")
        return rows

    @contextmanager
    def reading(self, file: Path) -> Iterator[None]:
        """Around the reading of one of the run's files: what is wrong is a UserError that says how to mend it."""
        try:
            yield
        except PermissionError as error:
            raise UserError(f"{file} may not be read ({error.strerror}); give yourself the right to read it") from error
        except OSError as error:
            fault = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise UserError(f"{file} {fault}; {self._remedy(file, error)}") from error
        except DamagedRow as error:
            raise UserError(f"{error}; {self._remedy(file, error)}") from error
        except UserError as error:
            text = str(error).removeprefix(f"{file}: ").removeprefix(f"{file.name}: ")
            raise UserError(f"{file} is damaged ({' '.join(text.split())}); {self._remedy(file, error)}") from error

    def command(self) -> str:
        """The command that trained the run, for a shell, as environment.json has it; "" where it does not say, or the
        run was taken over from another study, whose command would train there."""
        with suppress(OSError, UserError):  # without a summary nothing was taken over
            if "taken_over_from" in read_summary(self.summary):
                return ""
        try:
            words = [str(word) for word in read_summary(self.environment)["processes"][-1]["command"][1:]]
        except (OSError, UserError, LookupError, TypeError):
            return ""
        # A stranger's run may hold what does something to a terminal.
        is_plain = all(word.isprintable() for word in words)
        return shlex.join(["atomiclm", "train", *words]) if is_plain else ""

    def train_again(self) -> str:
        """What to do about a part of the run that only training makes."""
        folder, command = shlex.quote(str(self.path)), self.command()
        return "bring it back, or train the run from the start: " + (
            f"rm -r {folder} && {command}" if command else f"remove {folder} and give the command that trained it"
        )

    def _remedy(self, file: Path, error: Exception) -> str:
        if isinstance(error, DamagedRow):
            return f"take the line out with: sed -i {error.number}d {shlex.quote(str(file))}"
        if file == self.metrics:
            return self.train_again()
        remove = [] if isinstance(error, FileNotFoundError) else [f"rm -r {shlex.quote(str(file))}"]
        if command := self.command():
            return f"to write it again, type: {' && '.join([*remove, command])}"
        return ", then ".join([*remove, "the command that trained the run writes it again"])


# ---------------------------------------------------------------------------------------------------------------------
# A configuration in YAML: a run's, or an experiment's file.


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of config.yaml: plain values, interpolations as they are written. Raises as `read_yaml_text`,
    and UserError where it is no mapping."""
    text = read_yaml_text(path)
    try:
        values = yaml.load(text, _LOADER)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a date that is none
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path.name} is not a configuration: it is no mapping of names to values")
    return values


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file, once it is known to be small enough to be made into values.

    Raises:
        OSError: it cannot be read.
        UserError: it is not YAML in UTF-8, or too large or too deep.
    """
    content = read_file(path, MAX_YAML_BYTES)
    try:
        text = content.decode("utf-8")
        _check_size(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from error
    return text


def _check_size(text: str) -> None:
    level = 0
    for event in yaml.parse(text, _LOADER):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MAX_LEVELS:
            raise UserError(f"it is nested more than {MAX_LEVELS} levels deep")
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        """How many values a node comes to; an alias is the node that it repeats."""
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # of a node inside itself
            parts = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + (sum(map(size, parts)) if isinstance(node, yaml.CollectionNode) else 0)
        return sizes[id(node)]

    root = yaml.compose(text, _LOADER)
    if root is not None and size(root) > MAX_VALUES:
        raise UserError(f"it comes to more than {MAX_VALUES:,} values")


# ---------------------------------------------------------------------------------------------------------------------
# Finding runs and checkpoints.


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder of them, newest first; only reading one says whether it is sound."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if CHECKPOINT_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")), reverse=True)


def runs_in(folder: Path) -> list[RunFolder]:
    """The run folders directly inside `folder`, by name; an unreadable or missing folder holds none."""
    if not folder.is_dir():
        return []
    candidates = (RunFolder(path) for path in sorted(folder.iterdir()) if path.is_dir())
    return [run for run in candidates if run.looks_like_a_run()]


def digest_of(run_id: str) -> str:
    """The hash at the end of a run id: it says which run it is; what stands before it is for people to read."""
    return run_id.rpartition("-")[2]


def find_cell(folder: Path, run_id: str) -> Path | None:
    """The run folder in `folder` that is the run `run_id`: the one of this name, else the one that ends in its hash.

    Raises:
        UserError: several folders end in the hash and none has the name.
    """
    found = sorted(folder.glob(f"*-{digest_of(run_id)}"))
    named = [path for path in found if path.name == run_id] or found
    if len(named) > 1:
        raise UserError(
            f"{named[0]} and {named[1]} are copies of one run: their names end in the same hash, and neither is called "
            f"{run_id}; move all but one to another folder"
        )
    return named[0] if named else None


def near(text: str, names: list[str]) -> str:
    """End of an error message: the names closest to `text`, if any is close."""
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    return f"; near: {', '.join(close)}" if close else ""


def find_run(text: str, outputs: str | Path = "outputs") -> tuple[RunFolder, Path | None]:
    """Find the run a person means.

    Args:
        text: a run folder, a checkpoint folder in one, or a run id, of which the hash at its end is enough, the first
            four characters of it or more that only one run has, and so is any other part that only one run has.
        outputs: where run ids are looked up, as `outputs/<name>/<run_id>`.

    Returns:
        The run, and the checkpoint if one was named.

    Raises:
        UserError: nothing or more than one run answers to `text`; the message names the nearest ones.
    """
    if not text:
        raise UserError("RUN: empty; give a run folder, a checkpoint in one, or a run id")
    path = Path(text).expanduser()
    if path.exists():
        return _run_at(path, text)
    if len(Path(text).parts) != 1:
        siblings = [str(path.parent / other.name) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"RUN: no folder at {text!r}{near(str(path), siblings)}; give a run folder or a run id")

    folder = Path(outputs)
    runs = [run for study in sorted(folder.glob("*")) for run in runs_in(study)]
    named = [run for run in runs if run.run_id == text] or [run for run in runs if digest_of(run.run_id) == text]
    if len(text) >= 4:  # fewer may be the name of an arm
        named = named or [run for run in runs if digest_of(run.run_id).startswith(text)]
    matches = named or [run for run in runs if text in run.run_id]
    ends = {_DIGEST.search(run.run_id) and digest_of(run.run_id) for run in matches}
    if len(matches) == 1 or (len(ends) == 1 and None not in ends):  # copies in several studies are one run
        return min(matches, key=lambda run: not run.is_done()), None
    if matches:
        shown = ", ".join(str(run.path) for run in matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise UserError(f"RUN: {text!r} names {len(matches)} runs: {shown}; give more of the id, or the folder")
    raise UserError(
        f"RUN: no folder {text!r} here and no run id that contains it among the {len(runs)} runs in {folder}"
        f"{near(text, [run.run_id for run in runs])}"
    )


def _run_at(path: Path, text: str) -> tuple[RunFolder, Path | None]:
    if not path.is_dir():
        raise UserError(f"RUN: {text!r} is a file; give the run folder that holds it")
    # Names are taken from the absolute path, so that "." works from inside a run folder.
    path = path if path.name else path.absolute()
    if path.absolute().parent.name == "checkpoints" and RunFolder(path.absolute().parent.parent).looks_like_a_run():
        return RunFolder(path.parent.parent if len(path.parts) > 2 else path.absolute().parent.parent), path
    if RunFolder(path).looks_like_a_run():
        return RunFolder(path), None
    if inside := runs_in(path):
        shown = ", ".join(str(run.path) for run in inside[:3]) + (", ..." if len(inside) > 3 else "")
        raise UserError(f"RUN: {text!r} is a folder of {len(inside)} runs; give one of them: {shown}")
    raise UserError(f"RUN: {text!r} is not a run folder (no config.yaml, metrics.jsonl or summary.json in it)")
