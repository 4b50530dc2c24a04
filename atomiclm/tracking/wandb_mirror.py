"""The W&B mirror of a run: a thread that follows `metrics.jsonl`, and can neither slow nor stop the run."""

import contextlib
import errno
import netrc
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from atomiclm.atomic_io import read_json, to_json
from atomiclm.cli import UserError
from atomiclm.tracking import wandb_run
from atomiclm.tracking.run_folder import RunFolder
from atomiclm.tracking.wandb_run import Place

POLL_SECONDS = 1.0  # how far the mirror may lag behind the record
SPARE_SECONDS = 10.0  # beyond the two timeouts: importing wandb, starting and stopping its process
QUIET_SECONDS = 3.0  # how long the end of a run waits before it says what it is waiting for
ROOM_BYTES = 1 << 18  # that must be free for `wandb/`: several times what wandb collects before it writes
VERDICT = "verdict.json"  # in `wandb/`: what the last `compare --wandb` found, for the run's summary in W&B

MODES = {  # values of WANDB_MODE, older spellings included
    "online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline",
    "disabled": "disabled",
}  # fmt: skip
PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # of one service: a login under one is valid under the other


@dataclass(eq=False)
class WeightsAndBiases:
    """Shows one run in W&B while `metrics.jsonl` stays the truth.

    The trainer writes to the record only; a thread passes its rows on. So nothing wandb does is waited for before
    `finish`, and whatever goes wrong is said once and ends the mirror, not the run: `atomiclm sync` sends
    what is missing. Row i of the mirror is row i of the record (checkpoints' own aside), so a resumed run asks the
    server how many rows it has and sends the others.

    Offline, a process writes one segment, `wandb/offline-run-*`. wandb numbers the rows of each from 0 and loses the
    last ones of a killed process, so a segment that was never synced is removed and written again from the record;
    `wandb/rows.json` says up to which row of the record each segment reaches.

    Raises:
        ValueError: an argument breaks a rule of W&B, or a timeout is not positive.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"  # WANDB_MODE if set, else online with a key
    project: str = "atomiclm"
    entity: str | None = None  # user or team; null: the key's default
    tags: Sequence[str] = ()  # beside the study's name
    artifacts: Literal["none", "small", "all"] = "small"  # tokenizer and facts of the corpus; all: the checkpoint too
    init_timeout_seconds: int = 20  # for reaching the server
    finish_timeout_seconds: int = 60  # for uploading, at the end of the run, what is left

    def __post_init__(self) -> None:
        if not self.project or set(self.project) & set("/\\#?%:"):
            raise ValueError(f"project={self.project!r} must be a name without any of /\\#?%:")
        for tag in self.tags:
            if not 0 < len(tag) <= wandb_run.LONGEST_TAG:
                raise ValueError(f"tags: {tag!r} must have 1 to {wandb_run.LONGEST_TAG} characters")
        for name in ("init_timeout_seconds", "finish_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        self.where, self.held, self.sent = "", 0, 0  # address or offline segment; rows there before, and passed on
        self._started = self._abandoned = self._is_whole = False
        self._segment = ""  # the folder in wandb/ of this process, once wandb has opened the run
        self._ending = threading.Event()
        self._done = threading.Event()  # not is_alive(): a join that Ctrl-C interrupts makes Python 3.12 deny a thread

    def start(self, folder: RunFolder, say: Callable[[str], None], place: Place, *, live: bool = True) -> None:
        """Begin to mirror a run whose files are there, with a first summary.json and the past in `metrics.jsonl`.

        Returns at once; `say` is called from another thread. Without `live` this machine is not described.
        """
        assert not self._started, "one object mirrors one run"
        if choose_mode(self.mode)[0] == "disabled":
            return
        self._folder, self._place, self._live, self._say = folder, place, live, say
        self._later = f"`atomiclm sync {shlex.quote(str(folder.path))}` sends what is missing"
        self._started = True
        # A daemon: should wandb hang, the process can still end.
        threading.Thread(target=self._run, name=f"wandb {folder.run_id}", daemon=True).start()

    def finish(self, patience_seconds: float | None = None) -> bool:
        """Pass on what is left and close the run, however it ended, after its summary.json was written.

        Waits for the upload, but never longer than the two timeouts and SPARE_SECONDS together, nor than
        `patience_seconds` (left to a process that was asked to end), nor than Ctrl-C. Returns whether W&B has all.
        """
        if not self._started:
            return False
        self._ending.set()
        limit = SPARE_SECONDS + self.finish_timeout_seconds + (0 if self._segment else self.init_timeout_seconds)
        if patience_seconds is not None:  # of which stopping wandb's process may take the last seconds
            limit = max(0.0, min(limit, patience_seconds - QUIET_SECONDS))
        outcome = "not done"
        try:
            if not self._done.wait(min(QUIET_SECONDS, limit)) and limit > QUIET_SECONDS:
                self._say(f"W&B: waiting for the upload, at most {limit:.0f} s; Ctrl-C skips it ({self._later})")
                self._done.wait(limit - QUIET_SECONDS)
        except KeyboardInterrupt:
            outcome = "skipped"
        if self._done.is_set():
            return self._is_whole
        self._abandoned = True
        stopping = threading.Thread(target=stop_service, daemon=True)
        stopping.start()
        stopping.join(QUIET_SECONDS)
        if self._segment:
            with contextlib.suppress(OSError, ValueError):  # a full disk is no reason to fail either
                note_rows(self._folder.wandb, self._segment, 0)  # nobody knows how far it came; the server will say
        self._say(f"W&B: {outcome}; {self._later}")
        return False

    def _run(self) -> None:
        """Mirror the run to its end; whatever goes wrong with W&B is no reason to stop a run."""
        try:
            wandb = import_wandb()
            mode, reason = choose_mode(self.mode, wandb.setup().settings.base_url)
            if reason:
                self._say(f"W&B: {mode}; {reason}")
            self._follow(wandb, mode)
        except Exception as error:
            if not self._abandoned:  # or it was said, and another run may be using wandb by now
                self._say(f"W&B: off from here ({_first_line(error)}); {self._later}")
                with contextlib.suppress(Exception):  # the run is still open there, and refused to the next attempt
                    import_wandb().teardown(exit_code=1)
        finally:
            self._done.set()

    def _follow(self, wandb: Any, mode: str) -> None:
        """Open the W&B run, pass rows on until the end is announced, close it."""
        folder, online = self._folder, mode == "online"
        description = wandb_run.describe(folder, self._place, self.tags)
        if sent_rows(folder.wandb):
            del description["notes"]  # people may have written others since
        run = wandb.init(
            **description,
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
                **dict.fromkeys(("disable_git", "x_disable_meta", "x_disable_stats"), not self._live),
            ),
        )
        self._segment = segment = Path(run.dir).parent.name
        self.where = str(run.url if online else folder.wandb / segment)
        self.held = held = run.starting_step if online else sent_rows(folder.wandb)
        for other in folder.wandb.glob("offline-run-*"):
            if other.name != segment and not is_synced(other):
                shutil.rmtree(other)
        self._say(f"W&B: {self.where}" if online else f"W&B: offline, in {folder.wandb} ({self._later})")
        rows, ending = wandb_run.Rows(folder.metrics, run, held), False
        while not ending:
            ending = self._ending.wait(POLL_SECONDS)  # before reading: rows written before the end are then all read
            if shutil.disk_usage(folder.wandb).free < ROOM_BYTES:
                # wandb would lose rows in the middle and not say so, and the server's count of them be no use to sync.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.wandb))
            if rows.send():
                note_rows(folder.wandb, segment, max(rows.number, held))
                self.sent = max(0, rows.number - held)
        summary = folder.read_summary()
        run.summary.update(wandb_run.final_figures(summary) | _noted(folder.wandb / VERDICT))
        code, missing = wandb_run.exit_code(summary), ""
        if code == wandb_run.INTERRUPTED:
            run.mark_preempting()  # and its artifacts come when it has ended
        elif online and self.artifacts != "none":
            try:
                wandb_run.log_artifacts(run, folder, checkpoint=self.artifacts == "all")
            except Exception as error:
                missing = _first_line(error)
        run.finish(exit_code=code)
        self._is_whole = not missing
        if missing:
            self._say(f"W&B: artifacts are missing ({missing}); {self._later}")


def sent_rows(folder: Path) -> int:
    """Rows on the server as far as the run's `wandb/` knows: passed to an online run, or synced since."""
    noted = _noted(folder / "rows.json")
    return max((rows for name, rows in noted.items() if is_synced(folder / name)), default=0)


def note_rows(folder: Path, segment: str, rows: int) -> None:
    """Note that `segment` reaches as far as the first `rows` rows of the record; written often, so without fsync."""
    partial = folder / "rows.json.partial"
    partial.write_bytes(to_json({**_noted(folder / "rows.json"), segment: rows}))
    partial.replace(folder / "rows.json")


def _noted(file: Path) -> dict[str, Any]:
    return dict(read_json(file)) if file.exists() else {}


def is_synced(segment: Path) -> bool:
    """Whether a segment left this machine: `wandb sync` leaves a `.synced` file beside the log."""
    return not segment.name.startswith("offline-run-") or any(segment.glob("*.synced"))


def stop_service() -> None:
    """Kill wandb's own process, which tries to upload for as long as a run is open; there is no public way."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.setup()._connection._proc._process.kill()  # type: ignore[union-attr]
    with contextlib.suppress(Exception):
        wandb.teardown(exit_code=1)  # the next run starts a new one


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition('\n')[0]}".removesuffix(": ")


def choose_mode(mode: str, base_url: str | None = None) -> tuple[str, str]:
    """Resolve a configured mode to what can be done here: it, and why it is not what was asked for ("" where it is).

    Online without a key becomes offline, because wandb would stop the run to prompt for one.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_key(base_url) else "offline")
    if mode not in MODES:
        return "offline", f"WANDB_MODE={mode} is none of {', '.join(MODES)}"
    if MODES[mode] == "online" and not has_key(base_url):
        return "offline", "online was asked for, but no key was found (set WANDB_API_KEY or run `wandb login`)"
    return MODES[mode], ""


def has_key(base_url: str | None = None) -> bool:
    """Whether wandb would find credentials for the server (or that of WANDB_BASE_URL, or the public one)."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(base_url or os.environ.get("WANDB_BASE_URL") or f"https://{PUBLIC_HOSTS[0]}").netloc
    for name in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(netrc.NetrcParseError, OSError, RuntimeError):  # RuntimeError: a user without a home
            entries = netrc.netrc(Path(name).expanduser())
            return any(entries.authenticators(each) for each in (PUBLIC_HOSTS if host in PUBLIC_HOSTS else [host]))
    return False


def import_wandb() -> Any:
    """Import wandb so that it prints nothing."""
    # Telemetry to its makers, which holds up the end of the process for half a minute where no server answers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def require_key(otherwise: str) -> Any:
    """Import wandb where it can go online; without a key a UserError that ends with what to do `otherwise`."""
    wandb = import_wandb()
    mode, reason = choose_mode("online", wandb.setup().settings.base_url)
    if mode != "online":
        raise UserError(f"{reason}; or {otherwise}")
    return wandb
