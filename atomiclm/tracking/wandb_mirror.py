"""The thread that follows one run's `metrics.jsonl` and shows its rows in W&B."""

import contextlib
import netrc
import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from atomiclm.atomic_io import read_json, to_json
from atomiclm.tracking.run_folder import RunFolder
from atomiclm.tracking.wandb_run import (
    Rows,
    described,
    exit_code,
    final_figures,
    is_interrupted,
    log_artifacts,
    within,
)

if TYPE_CHECKING:
    from atomiclm.tracking.weights_biases import WeightsAndBiases

POLL_SECONDS = 1.0
"""How far the mirror may lag behind the record."""

SPARE_SECONDS = 10.0
"""Beyond wandb's own timeouts, for what it does not count: importing it, starting and stopping its process."""

QUIET_SECONDS = 3.0
"""How long the end of a run waits before it says what it is waiting for."""

ARTIFACT_SHARE = 0.5
"""The part of the finish timeout that artifacts may take; the rest is left for the rows."""

ROOM_BYTES = 1 << 18
"""What must fit into `wandb/` before rows are passed on: several times what wandb collects before it writes."""

Mode = Literal["online", "offline", "disabled"]

FROM_VARIABLE: Mapping[str, Mode] = {
    "online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline",
    "disabled": "disabled",
}  # fmt: skip
"""Values of WANDB_MODE, older spellings included."""

PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""The two names of the public service: a login made under one is valid under the other."""


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


class Mirror(threading.Thread):
    """Mirrors one run, from `start()` to `close()`; see `WeightsAndBiases`, which makes one for each run.

    A daemon thread: should wandb hang beyond its own timeouts, the process can still end.

    Args:
        settings: mode, project, entity, tags, artifacts and timeouts.
        live: whether this process trains the run: then an online run that fails goes on offline, and W&B is shown
            what this machine is and does; a run sent later has nothing to do with either.
        folder: the run.
        arm: the arm of its study, where it is known.
        say: called with each line meant for people.
    """

    def __init__(
        self,
        settings: "WeightsAndBiases",
        live: bool,
        folder: RunFolder,
        arm: str | None,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"wandb {folder.run_id}", daemon=True)
        self.settings = settings
        self.live = live
        self.folder = folder
        self.arm = arm
        self.say = say
        self.result: Mirrored | None = None
        self._segments = Segments(folder.wandb)
        self._segment = ""
        self._opened = threading.Event()
        self._ending = threading.Event()
        # Not is_alive(): a join that Ctrl-C interrupts makes Python 3.12 deny a live thread.
        self._done = threading.Event()
        self._abandoned = False

    def close(self, patience_seconds: float | None = None) -> Mirrored | None:
        """Announce the end and wait for it, within the timeouts or until Ctrl-C.

        Args:
            patience_seconds: return within so many seconds, if that is less.

        Returns:
            What became of it; None if wandb failed in every mode, or was left behind.
        """
        self._ending.set()
        opening = 0 if self._opened.is_set() else self.settings.init_timeout_seconds
        limit = opening + self.settings.finish_timeout_seconds + SPARE_SECONDS
        if patience_seconds is not None:  # of which stopping wandb's process may take the last seconds
            limit = max(0.0, min(limit, patience_seconds - QUIET_SECONDS))
        try:
            if not self._done.wait(min(QUIET_SECONDS, limit)) and limit > QUIET_SECONDS:
                self.say(f"W&B: waiting for the upload, at most {limit:.0f} s; Ctrl-C skips it ({self._later()})")
                self._done.wait(limit - QUIET_SECONDS)
        except KeyboardInterrupt:
            limit = 0
        if self._done.is_set():
            return self.result
        self._abandoned = True
        stop_service()  # otherwise the end of the process waits for it
        if self._segment:
            with contextlib.suppress(OSError, ValueError):  # a full disk is no reason to fail either
                self._segments.forget(self._segment)  # nobody knows how far it came; the server will say
        self.say(f"W&B: {'not done' if limit else 'skipped'}; {self._later()}")
        return None

    def run(self) -> None:
        """Try online, then offline, until one lasts to the end of the run."""
        try:
            wandb = import_wandb()
            mode, reason = choose_mode(self.settings.mode, wandb.setup().settings.base_url)
            if reason:
                self.say(f"W&B: {mode}; {reason}")
        except Exception as error:  # whatever is wrong with an optional mirror is no reason to stop a run
            self.say(f"W&B: off, wandb cannot be used ({first_line(error)}); metrics.jsonl has every row")
            self._done.set()
            return
        for attempt in dict.fromkeys([mode, "offline"] if self.live else [mode]):
            try:
                self.result = self._follow(attempt)
                break
            except Exception as error:
                if self._abandoned:  # another run may be using wandb by now
                    break
                # wandb still has the run's id and refuses it to the next attempt until it is torn down.
                with contextlib.suppress(Exception):
                    wandb.teardown(exit_code=1)
                is_last = attempt == "offline" or not self.live
                then = "off from here; metrics.jsonl has every row" if is_last else "going on offline"
                self.say(f"W&B: {attempt} failed ({first_line(error)}); {then}")
        self._done.set()

    def _follow(self, mode: Mode) -> Mirrored:
        """Open the W&B run, pass rows on until the end is announced, close it."""
        import wandb

        settings = self.settings
        arguments = described(self.folder, self.arm)
        arguments["tags"] = [*arguments["tags"], *settings.tags]
        online = mode == "online"
        segments = self._segments
        artifact_seconds = (
            ARTIFACT_SHARE * settings.finish_timeout_seconds if online and settings.artifacts != "none" else 0.0
        )
        run = wandb.init(
            **arguments,
            project=settings.project,
            entity=settings.entity,
            dir=str(self.folder.path),
            mode=mode,
            # By default a second init in one process returns the first run, and two cells of a sweep become one.
            reinit="create_new",
            resume="allow" if online else None,
            save_code=False,
            settings=wandb.Settings(
                console="off",
                silent=True,
                init_timeout=settings.init_timeout_seconds,
                finish_timeout=settings.finish_timeout_seconds - artifact_seconds,
                finish_timeout_raises=True,
                login_timeout=settings.init_timeout_seconds,
                disable_git=not self.live,
                x_disable_meta=not self.live,
                x_disable_stats=not self.live,
            ),
        )
        self._segment = segment = Path(run.dir).parent.name
        held = run.starting_step if online else segments.held()
        segments.discard_unsynced(but=segment)
        self._opened.set()
        where = str(run.url) if online else str(self.folder.wandb / segment)
        self.say(f"W&B: {where}" if online else f"W&B: offline, in {self.folder.wandb} ({self._later()})")
        rows = Rows(self.folder.metrics, run, held)
        ending, full = False, ""
        while not ending:
            ending = self._ending.wait(POLL_SECONDS)  # before reading: rows written before the end are then all read
            was_full, full = full, segments.no_room()
            if full:  # wandb would lose rows in the middle and not say so; those that wait can be sent later
                if not was_full:
                    self.say(f"W&B: rows wait for room in {self.folder.wandb} ({full})")
                continue
            before = rows.number
            try:
                rows.send()
            finally:  # so that an attempt that takes over from this one knows where to continue
                if rows.number > max(before, held):
                    segments.note(segment, rows.number)
        summary = self.folder.read_summary()
        run.summary.update(final_figures(summary))
        missing = [f"rows: {full}"] if full else []
        if artifact_seconds and not is_interrupted(summary):
            try:
                within(artifact_seconds, lambda: log_artifacts(run, self.folder, settings.artifacts))
            except Exception as error:
                missing.append(f"artifacts: {first_line(error)}")
        if not rows.send_samples():
            missing.append("table of samples")
        if is_interrupted(summary):
            run.mark_preempting()
        try:
            run.finish(exit_code=exit_code(summary))
        except TimeoutError:
            segments.forget(segment)  # nobody knows how far it came; the server will say
            missing.append(f"rows: not all uploaded within {settings.finish_timeout_seconds:g} s")
        if missing:
            self.say(f"W&B: incomplete ({'; '.join(missing)}); {self._later()}")
        return Mirrored(mode, where, held, rows.sent, "; ".join(missing))

    def _later(self) -> str:
        return f"`python -m atomiclm.sync {shlex.quote(str(self.folder.path))}` sends what is missing"


class Segments:
    """Which rows of a run W&B already has, or will get from a folder that is still to be synced.

    Each process that mirrors a run makes one segment: a folder `wandb/run-*` (online) or `wandb/offline-run-*`. wandb
    numbers the rows of each offline segment from 0 and loses the last ones of a killed process, so `wandb sync` of two
    would repeat rows or leave a hole. Therefore segments that never left this machine are removed and written again
    from the record, and rows that did leave it are skipped. `rows.json` says how many rows each segment and those
    before it hold together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "rows.json"

    def held(self) -> int:
        """Rows that are on the server as far as this machine knows: passed to an online run, or synced since."""
        return max((rows for name, rows in self._read().items() if not self._is_unsynced(name)), default=0)

    def note(self, segment: str, rows: int) -> None:
        """Note that `segment` reaches as far as the first `rows` rows of the record."""
        self._write({**self._read(), segment: rows})

    def forget(self, segment: str) -> None:
        """Drop the note of a segment whose upload was given up: its rows may be nowhere but here."""
        self._write({name: rows for name, rows in self._read().items() if name != segment})

    def discard_unsynced(self, but: str) -> None:
        """Remove the offline segments that were never synced, except the one that holds their rows again."""
        for path in self.folder.glob("offline-run-*"):
            if path.name != but and self._is_unsynced(path.name):
                shutil.rmtree(path)

    def no_room(self) -> str:
        """Return why wandb could not write to a segment now; "" when it can."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(bytes(ROOM_BYTES))
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""

    def _is_unsynced(self, segment: str) -> bool:
        # `wandb sync` leaves a `.synced` file beside the log.
        return segment.startswith("offline-run-") and not any((self.folder / segment).glob("*.synced"))

    def _write(self, rows: dict[str, int]) -> None:
        # Written often, and only ever an estimate after a kill: no fsync.
        partial = self._path.with_name("rows.json.partial")
        partial.write_bytes(to_json(rows))
        partial.replace(self._path)

    def _read(self) -> dict[str, int]:
        return read_json(self._path) if self._path.exists() else {}


def choose_mode(mode: str, base_url: str | None = None) -> tuple[Mode, str]:
    """Resolve a configured mode to what can be done here, without asking anybody.

    Args:
        mode: "auto" (WANDB_MODE when it is set, else online exactly if a key is found, else offline), "online",
            "offline" or "disabled".
        base_url: the server; WANDB_BASE_URL or the public service when None.

    Returns:
        The mode, and why the user did not get what was asked for ("" when they did). Online without a key becomes
        offline, because wandb would stop the run to prompt for one.
    """
    wanted: str = mode
    if mode == "auto":
        variable = os.environ.get("WANDB_MODE", "")
        if not variable:
            return ("online" if has_key(base_url) else "offline"), ""
        wanted = FROM_VARIABLE.get(variable, "")
        if not wanted:
            return "offline", f"WANDB_MODE={variable} is none of {', '.join(FROM_VARIABLE)}"
    if wanted == "online" and not has_key(base_url):
        return "offline", "online was asked for, but no key was found (set WANDB_API_KEY or run `wandb login`)"
    return FROM_VARIABLE[wanted], ""


def has_key(base_url: str | None = None) -> bool:
    """Whether wandb would find credentials for the server: an environment variable, or a netrc entry for its host."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(base_url or os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC_HOSTS[0]}").netloc
    try:
        if named := os.environ.get("NETRC"):
            path = Path(named).expanduser()
        else:
            path = next(path for name in (".netrc", "_netrc") if (path := Path.home() / name).is_file())
        entries = netrc.netrc(path)
    except (netrc.NetrcParseError, OSError, RuntimeError, StopIteration):  # RuntimeError: a user without a home folder
        return False  # wandb cannot read one either
    hosts = PUBLIC_HOSTS if host in PUBLIC_HOSTS else (host,)
    return any(entry[2] for name in hosts if (entry := entries.authenticators(name)))


def import_wandb() -> Any:
    """Import wandb so that it prints nothing; Any, because it may be half installed."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def stop_service() -> None:
    """Kill wandb's own process, for good: it goes on trying to upload for as long as a run is open.

    Even asking wandb for it may wait for what the process does not answer, so that has a limit of its own.
    wandb has no public way to do that. Should a release keep its process elsewhere, the end of our process waits for
    wandb's finish timeout once more, and a test says so.
    """
    import wandb

    with contextlib.suppress(Exception):
        within(QUIET_SECONDS, lambda: wandb.setup()._connection._proc._process.kill())  # type: ignore[union-attr]
    with contextlib.suppress(Exception):
        within(QUIET_SECONDS, lambda: wandb.teardown(exit_code=1))  # the next run starts a new one


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of its message: enough for one line on a screen."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
