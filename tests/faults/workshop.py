"""What trials share: the texts, what is made of them once, Python's bytecode, and the runs nothing disturbs."""

import hashlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cli import command, corpus, environment, heed_signals
from faults.evidence import run_folder
from faults.matrix import Configuration
from filelock import FileLock
from warm import WarmParent, WarmProcess

LIMIT_SECONDS = 300
Running = subprocess.Popen[bytes] | WarmProcess


@dataclass
class Workshop:
    """A folder for all trials of a session, in whichever process they run.

    Attributes:
        folder: where everything lies.
        warm: starts processes that have their imports already; None: every process is a cold one.
    """

    folder: Path
    warm: WarmParent | None = None

    def __post_init__(self) -> None:
        with FileLock(self.folder / ".texts.lock"):
            if not self._texts.exists():
                self._write_texts()

    def furnish(self, folder: Path) -> None:
        """Make the folder a run starts in, with the texts where the configuration says they are."""
        shutil.copytree(self._texts, folder, dirs_exist_ok=True)

    def start(self, arguments: list[str], folder: Path, cold: bool = True) -> Running:
        """Run the command in `folder`; what it prints is added to `log` there."""
        log = folder.parent / f"{folder.name}.log"
        if self.warm is not None and not cold:
            return self.warm.start("atomiclm.train", arguments, folder, self.environment, log)
        with log.open("ab") as file:
            return subprocess.Popen(
                command("train", *arguments), cwd=folder, env=self.environment, stdout=file, stderr=file,
                stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=heed_signals,
            )  # fmt: skip

    def reference(self, configuration: Configuration) -> Path:
        """The run folder of the undisturbed run, made once."""
        folder = self._reference_folder(configuration)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not (folder / "life_seconds").exists():
                self.furnish(folder / "place")
                begun = time.monotonic()
                status = self.start(list(configuration.overrides), folder / "place").wait(LIMIT_SECONDS)
                log = (folder / "place.log").read_text()
                assert status == 0, f"undisturbed, {configuration.name} ends with {status}:\n{log[-3000:]}"
                (folder / "life_seconds").write_text(f"{time.monotonic() - begun:.3f}")
        run = run_folder(folder / "place")
        assert run is not None
        return run

    def life_seconds(self, configuration: Configuration) -> float:
        """How long the undisturbed run took, imports included."""
        self.reference(configuration)
        return float((self._reference_folder(configuration) / "life_seconds").read_text())

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process."""
        shared = {
            **environment(self.folder),
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),
            # Half of a process's time is compiling torch's Python to bytecode, where nothing keeps it.
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
        }
        shared.pop("PYTHONDONTWRITEBYTECODE", None)
        return shared

    @property
    def _texts(self) -> Path:
        return self.folder / "texts"

    def _reference_folder(self, configuration: Configuration) -> Path:
        overrides = " ".join(configuration.overrides).encode()
        return self.folder / "references" / hashlib.sha256(overrides).hexdigest()[:12]

    def _write_texts(self) -> None:
        begun = self.folder / ".texts"
        begun.mkdir()
        lines = corpus(begun, 150).rename(begun / "short.txt").read_text(encoding="utf-8").splitlines()
        documents = ("\n".join(lines[at : at + 1 + at % 5]) for at in range(len(lines) - 5))
        content = "".join(json.dumps({"text": document}) + "\n" for document in documents)
        (begun / "documents.jsonl").write_text(content, encoding="utf-8")
        begun.rename(self._texts)
