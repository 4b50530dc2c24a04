"""Run the real commands in processes of their own, as a user would."""

import atexit
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from warm import WarmParent

TINY = (
    "model=tiny", "model.dim=32", "model.context_length=32", "tokenizer.vocab_size=300", "trainer.batch_size=4",
    "trainer.max_tokens=null", "trainer.precision=float32", "evaluation.anchors=false", "evaluation.samples=1",
    "evaluation.sample_times=1", "evaluation.sample_tokens=8", "evaluation.times=2", "tracking=off",
)  # fmt: skip
"""Overrides that make a run take a second or two."""


def environment(folder: Path) -> dict[str, str]:
    """Variables that keep a command inside `folder`, offline, and from spinning threads."""
    # wandb in this process would have a command share its own service, which ends with the test that began it.
    left_out = ("PYTHONDONTWRITEBYTECODE", "WANDB_SERVICE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {
        **kept,
        "ATOMICLM_CACHE": str(folder / "cache"),
        "HOME": str(folder),
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": "0",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def heed_signals() -> None:
    """In a new process: take signals as in the foreground; the tests may have begun under `nohup` or with `&`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"atomiclm.{name}", *arguments]


def run(folder: Path, name: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python -m atomiclm.NAME ...` in `folder` and return what it printed and its exit status.

    Its imports are made (see `warm`); for a process with its own, start `command`.
    """
    with TemporaryDirectory() as place:
        printed = Path(place, "output"), Path(place, "errors")
        process = _warm_parent().start(f"atomiclm.{name}", [*arguments], folder, environment(folder), *printed)
        status = process.wait(timeout)
        output, errors = (each.read_text(encoding="utf-8") for each in printed)
    return subprocess.CompletedProcess(command(name, *arguments), status, output, errors)


@cache
def _warm_parent() -> WarmParent:
    parent = WarmParent(environment(Path.cwd()))
    atexit.register(parent.__exit__)
    return parent


def corpus(folder: Path, num_lines: int = 400) -> Path:
    """A small text with something to learn, made here."""
    path = folder / "corpus.txt"
    subjects, verbs = ("the cat", "a dog", "my aunt", "one bird"), ("sees", "eats", "likes", "finds")
    lines = [
        f"{subjects[i % 4]} {verbs[(i * i // 3) % 4]} {subjects[(i // 4) % 4]} and then {i % 17} more"
        for i in range(num_lines)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def only_run(folder: Path, name: str = "runs") -> Path:
    """The one run folder under outputs/NAME."""
    (found,) = [path for path in (folder / "outputs" / name).iterdir() if path.is_dir()]
    return found
