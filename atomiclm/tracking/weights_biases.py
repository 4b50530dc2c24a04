"""The W&B mirror of a run: follows `metrics.jsonl` from a thread of its own, and can neither slow nor stop a run."""

import logging
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from atomiclm.tracking.run_folder import RunFolder
from atomiclm.tracking.wandb_mirror import Mirror, Mirrored, choose_mode
from atomiclm.tracking.wandb_run import LONGEST_TAG, Artifacts

_LOG = logging.getLogger(__name__)

FORBIDDEN_IN_PROJECT = "/\\#?%:"


class WeightsAndBiases:
    """Shows a run in W&B while `metrics.jsonl` stays the truth.

    The trainer writes rows to the record only; a thread reads them from the file and passes them on. So nothing wandb
    does (connecting, retrying, uploading a table) is ever waited for before `finish`, row i of the mirror is row i of
    the record (checkpoint events aside), and whatever goes wrong is said once and ends the mirror, not the run: online
    falls back to offline, offline to nothing. Resumed runs continue: the server says how many rows it has (wandb's
    `_step` counts them), so many are skipped and the missing ones are sent, so killed runs heal. That is exact because
    a resumed run writes the rows again that it had written before; resumed with another logging interval, only the
    mirror of the repeated stretch is off. Each run is closed with its own exit code, and several runs in one process,
    one after the other, stay several. What W&B is told of the run is read from its folder as well
    (`wandb_run.py`), so `python -m atomiclm.sync` can do all of this again, later and elsewhere. While wandb
    has no room for its files, rows wait in the record: it would lose some in the middle, and say nothing.

    wandb's own error reporting (telemetry to its makers) is switched off unless WANDB_ERROR_REPORTING is set: with a
    server that does not answer it holds up the end of the process for half a minute.

    Args:
        mode: auto = WANDB_MODE when it is set, else online if a key is found, else offline. Never prompts.
        project: W&B project.
        entity: user or team; null for the key's default.
        tags: labels of the run, beside the study's name.
        artifacts: what an online run gets at its end, with its lineage: none; small: the tokenizer and the facts about
            the corpus, some kilobytes; all: the newest checkpoint as well.
        init_timeout_seconds: how long the mirror tries to reach the server before it goes offline.
        finish_timeout_seconds: how long the end of a run waits for the last rows to be uploaded.

    Raises:
        ValueError: an argument breaks a rule of W&B (characters of a project's name, length of a tag) or a timeout is
            not positive.
    """

    def __init__(
        self,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        project: str = "atomiclm",
        entity: str | None = None,
        tags: Sequence[str] = (),
        artifacts: Artifacts = "small",
        init_timeout_seconds: int = 20,
        finish_timeout_seconds: int = 60,
    ) -> None:
        if mode not in ("auto", "online", "offline", "disabled"):
            raise ValueError(f"mode={mode!r} must be auto, online, offline or disabled")
        if not project or any(character in FORBIDDEN_IN_PROJECT for character in project):
            raise ValueError(f"project={project!r} must be a name without any of {FORBIDDEN_IN_PROJECT}")
        for tag in tags:
            if not 0 < len(tag) <= LONGEST_TAG:
                raise ValueError(f"tags: {tag!r} must have 1 to {LONGEST_TAG} characters")
        if artifacts not in get_args(Artifacts):
            raise ValueError(f"artifacts={artifacts!r} must be none, small or all")
        for argument, seconds in (("init", init_timeout_seconds), ("finish", finish_timeout_seconds)):
            if seconds <= 0:
                raise ValueError(f"{argument}_timeout_seconds={seconds} must be positive")
        self.mode = mode
        self.project = project
        self.entity = entity
        self.tags = list(tags)
        self.artifacts: Artifacts = artifacts
        self.init_timeout_seconds = init_timeout_seconds
        self.finish_timeout_seconds = finish_timeout_seconds
        self._mirror: Mirror | None = None

    def start(
        self,
        folder: RunFolder,
        *,
        arm: str | None = None,
        live: bool = True,
        say: Callable[[str], None] = _LOG.info,
    ) -> None:
        """Begin to mirror a run; returns at once.

        A resumed run truncates its record first: the lines found here are the run's past.

        Args:
            folder: the run; config.yaml, environment.json and a first summary.json are there. Its `metrics.jsonl` is
                followed, its `wandb/` holds what wandb writes.
            arm: the arm of the study that the run is a cell of, where it is known.
            live: whether this process trains the run; otherwise nothing is told of this machine, and an online mirror
                that fails does not go on offline.
            say: called, from the mirror's thread, with each line meant for people.
        """
        assert self._mirror is None, "finish() the previous run before the next start()"
        if choose_mode(self.mode)[0] == "disabled":
            return
        self._mirror = Mirror(self, live, folder, arm, say)
        self._mirror.start()

    def finish(self, patience_seconds: float | None = None) -> Mirrored | None:
        """Pass on what is left and close the run; call it however the run ended, after its summary.json was written.

        The summary says how the run ended: "done" is exit code 0, which W&B shows as finished; "interrupted" is told
        as a preemption, and gets no artifacts yet; every other state is 1, shown as failed. Waits for the upload, but
        never longer than the two timeouts together with a few seconds to spare, and no longer than Ctrl-C.

        Args:
            patience_seconds: wait no longer than this either: what is left to a process that was asked to end. What
                did not arrive, `python -m atomiclm.sync` sends.

        Returns:
            What became of the mirror; None without one, or if it failed.
        """
        if self._mirror is None:
            return None
        mirror, self._mirror = self._mirror, None
        return mirror.close(patience_seconds)
