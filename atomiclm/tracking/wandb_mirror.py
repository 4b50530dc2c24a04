"""The W&B mirror of a run: a thread that follows `metrics.jsonl`, and can neither slow nor stop the run."""

import contextlib
import logging
import shlex
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from atomiclm.atomic_io import read_json, to_json
from atomiclm.tracking.run_folder import RunFolder
from atomiclm.tracking.wandb_mode import Mode, choose_mode, import_wandb
from atomiclm.tracking.wandb_run import (
    INTERRUPTED,
    LONGEST_TAG,
    Artifacts,
    Rows,
    describe,
    exit_code,
    final_figures,
    log_artifacts,
)

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How far the mirror may lag behind the record."""

SPARE_SECONDS = 10.0
"""Beyond the two timeouts, for what is neither: importing wandb, starting and stopping its process."""

QUIET_SECONDS = 3.0
"""How long the end of a run waits before it says what it is waiting for."""

ROOM_BYTES = 1 << 18
"""What must be free for `wandb/` before rows are passed on: several times what wandb collects before it writes."""


@dataclass(frozen=True)
class Mirrored:
    """What became of a mirror.

    Attributes:
        mode: online or offline, the one that lasted.
        where: the run's address, or the folder of its offline segment.
        held: rows that were there before.
        sent: rows that were passed on.
        missing: why something may not have arrived; "" when everything has.
    """

    mode: Mode
    where: str
    held: int
    sent: int
    missing: str = ""


class WeightsAndBiases:
    """Shows one run in W&B while `metrics.jsonl` stays the truth.

    The trainer writes rows to the record only; a thread reads them from the file and passes them on. So nothing wandb
    does (connecting, retrying, uploading) is waited for before `finish`, and whatever goes wrong is said once and ends
    the mirror, not the run: online falls back to offline, offline to nothing. Row i of the mirror is row i of the
    record (checkpoints' own aside), so a resumed run asks the server how many rows it has and sends the others, and
    `python -m atomiclm.sync` can do all of this again, later and elsewhere.

    Offline, a process writes one segment, `wandb/offline-run-*`. wandb numbers the rows of each from 0 and loses the
    last ones of a killed process, so a segment that was never synced is removed and written again from the record;
    `wandb/rows.json` says up to which row of the record each segment reaches.

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
        finish_timeout_seconds: how long the end of a run waits for what is left to be uploaded.

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
        if not project or set(project) & set("/\\#?%:"):
            raise ValueError(f"project={project!r} must be a name without any of /\\#?%:")
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
        self._started = False
        self._segment = ""  # the folder in wandb/ of this process, once wandb has opened the run
        self._result: Mirrored | None = None
        self._ending = threading.Event()
        self._done = threading.Event()  # not is_alive(): a join that Ctrl-C interrupts makes Python 3.12 deny a thread
        self._abandoned = False

    def start(
        self, folder: RunFolder, *, arm: str | None = None, live: bool = True, say: Callable[[str], None] = _LOG.info
    ) -> None:
        """Begin to mirror a run; returns at once.

        A resumed run truncates its record first: the lines found here are the run's past.

        Args:
            folder: the run; config.yaml, environment.json and a first summary.json are there. Its `metrics.jsonl` is
                followed, its `wandb/` holds what wandb writes.
            arm: the arm of the study that the run is a cell of, where it is known.
            live: whether this process trains the run; otherwise this machine is not described, and an online mirror
                that fails does not go on offline.
            say: called, from the mirror's thread, with each line meant for people.
        """
        assert not self._started, "one object mirrors one run"
        if choose_mode(self.mode)[0] == "disabled":
            return
        self._folder, self._arm, self._live, self._say = folder, arm, live, say
        self._started = True
        # A daemon: should wandb hang, the process can still end.
        threading.Thread(target=self._run, name=f"wandb {folder.run_id}", daemon=True).start()

    def finish(self, patience_seconds: float | None = None) -> Mirrored | None:
        """Pass on what is left and close the run; call it however the run ended, after its summary.json was written.

        The summary says how the run ended: "done" is exit code 0, which W&B shows as finished; "interrupted" is
        reported as a preemption, and gets no artifacts yet; every other state is 1, shown as failed. Waits for the
        upload, but never longer than the two timeouts and SPARE_SECONDS together, and no longer than Ctrl-C.

        Args:
            patience_seconds: wait no longer than this either: what is left to a process that was asked to end. What
                did not arrive, `python -m atomiclm.sync` sends.

        Returns:
            What became of the mirror; None without one, or if it failed or was left behind.
        """
        if not self._started:
            return None
        self._ending.set()
        limit = SPARE_SECONDS + self.finish_timeout_seconds + (0 if self._segment else self.init_timeout_seconds)
        if patience_seconds is not None:  # of which stopping wandb's process may take the last seconds
            limit = max(0.0, min(limit, patience_seconds - QUIET_SECONDS))
        outcome = "not done"
        try:
            if not self._done.wait(min(QUIET_SECONDS, limit)) and limit > QUIET_SECONDS:
                self._say(f"W&B: waiting for the upload, at most {limit:.0f} s; Ctrl-C skips it ({self._later()})")
                self._done.wait(limit - QUIET_SECONDS)
        except KeyboardInterrupt:
            outcome = "skipped"
        if self._done.is_set():
            return self._result
        self._abandoned = True
        stopping = threading.Thread(target=stop_service, daemon=True)
        stopping.start()
        stopping.join(QUIET_SECONDS)
        if self._segment:
            with contextlib.suppress(OSError, ValueError):  # a full disk is no reason to fail either
                note_rows(self._folder.wandb, self._segment, 0)  # nobody knows how far it came; the server will say
        self._say(f"W&B: {outcome}; {self._later()}")
        return None

    def _run(self) -> None:
        """Try online, then offline, until one lasts to the end of the run."""
        try:
            wandb = import_wandb()
            mode, reason = choose_mode(self.mode, wandb.setup().settings.base_url)
            if reason:
                self._say(f"W&B: {mode}; {reason}")
        except Exception as error:  # whatever is wrong with an optional mirror is no reason to stop a run
            self._say(f"W&B: off, wandb cannot be used ({first_line(error)}); metrics.jsonl has every row")
            self._done.set()
            return
        for attempt in dict.fromkeys([mode, "offline"] if self._live else [mode]):
            try:
                self._result = self._follow(attempt)
                break
            except Exception as error:
                if self._abandoned:  # another run may be using wandb by now
                    break
                # wandb still has the run's id and refuses it to the next attempt until it is torn down.
                with contextlib.suppress(Exception):
                    wandb.teardown(exit_code=1)
                is_last = attempt == "offline" or not self._live
                then = "off from here; metrics.jsonl has every row" if is_last else "going on offline"
                self._say(f"W&B: {attempt} failed ({first_line(error)}); {then}")
        self._done.set()

    def _follow(self, mode: Mode) -> Mirrored:
        """Open the W&B run, pass rows on until the end is announced, close it."""
        import wandb

        folder, online = self._folder, mode == "online"
        run = wandb.init(
            **describe(folder, self._arm, self.tags),
            project=self.project,
            entity=self.entity,
            dir=str(folder.path),
            mode=mode,
            # By default a second init in one process returns the first run, and two cells of a sweep become one.
            reinit="create_new",
            resume="allow" if online else None,
            save_code=False,
            settings=wandb.Settings(
                console="off",
                silent=True,
                init_timeout=self.init_timeout_seconds,
                login_timeout=self.init_timeout_seconds,
                disable_git=not self._live,
                x_disable_meta=not self._live,
                x_disable_stats=not self._live,
            ),
        )
        self._segment = segment = Path(run.dir).parent.name
        held = run.starting_step if online else sent_rows(folder.wandb)
        for other in folder.wandb.glob("offline-run-*"):
            if other.name != segment and not is_synced(other):
                shutil.rmtree(other)
        where = str(run.url) if online else str(folder.wandb / segment)
        self._say(f"W&B: {where}" if online else f"W&B: offline, in {folder.wandb} ({self._later()})")
        rows = Rows(folder.metrics, run, held)
        ending, missing = False, ""
        while not ending:
            ending = self._ending.wait(POLL_SECONDS)  # before reading: rows written before the end are then all read
            if shutil.disk_usage(folder.wandb).free < ROOM_BYTES:
                # wandb would lose rows in the middle and not say so; those that wait can be sent later.
                if not missing:
                    self._say(f"W&B: rows wait for room in {folder.wandb} (the disk is full)")
                missing = "rows: the disk is full"
                continue
            missing, before = "", rows.number
            try:
                rows.send()
            finally:  # so that an attempt that takes over from this one knows where to continue
                if rows.number > before:
                    note_rows(folder.wandb, segment, max(rows.number, held))
        summary = folder.read_summary()
        run.summary.update(final_figures(summary))
        code = exit_code(summary)
        if code == INTERRUPTED:
            run.mark_preempting()
        elif online:
            try:
                log_artifacts(run, folder, self.artifacts)
            except Exception as error:
                missing = f"{missing}; artifacts: {first_line(error)}".removeprefix("; ")
        run.finish(exit_code=code)
        if missing:
            self._say(f"W&B: incomplete ({missing}); {self._later()}")
        return Mirrored(mode, where, held, rows.sent, missing)

    def _later(self) -> str:
        return f"`python -m atomiclm.sync {shlex.quote(str(self._folder.path))}` sends what is missing"


def sent_rows(folder: Path) -> int:
    """Rows on the server as far as the run's `wandb/` knows: passed to an online run, or synced since."""
    noted = read_json(folder / "rows.json") if (folder / "rows.json").exists() else {}
    return max((rows for name, rows in noted.items() if is_synced(folder / name)), default=0)


def note_rows(folder: Path, segment: str, rows: int) -> None:
    """Note that `segment` reaches as far as the first `rows` rows of the record; written often, so without fsync."""
    path = folder / "rows.json"
    noted = read_json(path) if path.exists() else {}
    partial = path.with_name("rows.json.partial")
    partial.write_bytes(to_json({**noted, segment: rows}))
    partial.replace(path)


def is_synced(segment: Path) -> bool:
    """Whether a segment left this machine: `wandb sync` leaves a `.synced` file beside the log."""
    return not segment.name.startswith("offline-run-") or any(segment.glob("*.synced"))


def stop_service() -> None:
    """Kill wandb's own process, for good: it goes on trying to upload for as long as a run is open.

    wandb has no public way to do that. Should a release keep its process elsewhere, the end of our process waits until
    wandb gives up, and a test says so.
    """
    import wandb

    with contextlib.suppress(Exception):
        wandb.setup()._connection._proc._process.kill()  # type: ignore[union-attr]
    with contextlib.suppress(Exception):
        wandb.teardown(exit_code=1)  # the next run starts a new one


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its message: enough for one line on a screen."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
