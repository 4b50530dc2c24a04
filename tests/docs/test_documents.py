"""Every command and every Python block of README.md and docs/ is executed, in order, as a reader would type it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import forked
import pytest
import yaml
from cli import corpus, environment

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in (
        "index", "tour", "commands", "configuration", "study", "report", "evaluation", "talk", "python", "runs",
        "fine_tune", "huggingface", "tokenizer", "tracking", "trust", "scale", "code", "log", "add_a_component",
    )),
]  # fmt: skip
"""In the order in which they are executed: `study` trains what `report` and `tracking` read."""

NOT_RUN = {
    "atomiclm train -m experiments=kv_heads hydra/launcher=submitit_slurm": "needs a cluster",
    "atomiclm train -m experiments=kv_heads hydra/launcher=ray hydra.launcher.address=auto": ("needs a cluster"),
    "torchrun --nproc-per-node 8 -m atomiclm.train model=small trainer.batch_size=64 runtime.distributed=fsdp": (
        "needs more cores than there may be"
    ),
    "srun bash -c 'sleep $((60 * SLURM_PROCID)); atomiclm train -m experiments=kv_heads runtime.parallel=4'": (
        "needs a cluster"
    ),
    "wandb sweep --project atomiclm experiments/sweeps/learning_rate.yaml": "needs W&B's server",
    'eval "$(atomiclm completion zsh)"': "needs zsh",
    "atomiclm completion fish | source": "needs fish",
    "uv venv && uv pip install --torch-backend cpu -e . --group dev && source .venv/bin/activate": "needs the network",
    "atomiclm sync outputs/kv_heads": "needs W&B's server",
    "atomiclm workspace outputs/kv_heads": "needs W&B's server",
    "uv run pytest": "these are the tests",
}
"""Commands that are shown and not executed, and why."""

COMMAND = re.compile(r"(?m)^\s*(\$ |uv |pip |python |atomiclm[ -]|git |wandb )")


NEWEST_RUN = """newest_run() {
  for run in $(ls -td outputs/*/*/summary.json); do
    run=$(dirname $run)
    [ $run/summary.json -nt page_begun ] && [ ! -e $(dirname $run)/study.json ] && echo $run && return
  done
  echo outputs/first/*
}
"""
"""For RUN: the last run that this page trained by itself, not in a sweep, or a first one."""


@dataclass
class Block:
    page: str
    line: int
    language: str
    title: str | None
    text: str


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"(?ms)^( *)```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", text):
        line = text[: found.start()].count("\n") + 1
        yield Block(page, line, found[2], found[3], re.sub(f"(?m)^{found[1]}", "", found[4]))


class Reader:
    """A person with a terminal in a folder of their own, who types what a page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        address = str(folder / "forks")
        forked.install(folder / "bin", address)
        self.environment = environment(folder) | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        self.server = subprocess.Popen([sys.executable, forked.__file__, address], cwd=folder, env=self.environment)
        while not Path(address).exists():
            assert self.server.poll() is None
            time.sleep(0.05)
        (folder / "my_texts").mkdir()
        corpus(folder / "my_texts", num_lines=2000)
        (folder / "experiments").mkdir()
        self.failures: list[str] = []

    def read(self, page: str) -> None:
        (self.folder / "page_begun").touch()
        python = ""
        for number, block in enumerate(blocks(page)):
            where = f"{page}:{block.line}"
            if block.title:
                path = self.folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "bash":
                self.type(where, block.text)
            elif block.language == "console":
                self.compare(where, block.text)
            elif block.language in ("python", "pycon"):
                python += block.text if block.language == "python" else ""
                script = self.folder / f"{Path(page).stem}_{number}.{'py' if block.language == 'python' else 'txt'}"
                script.write_text(python if block.language == "python" else block.text, encoding="utf-8")
                how = "python" if block.language == "python" else "python -m doctest"
                self.type(where, f"{how} {script}")
            elif block.language == "yaml":
                yaml.safe_load(block.text)
            elif COMMAND.search(block.text):
                self.failures.append(f"{where}: a command in a block that is not executed")

    def type(self, where: str, script: str) -> None:
        """Type a block of commands; each has to end with status 0."""
        lines = [line for line in script.splitlines() if line.partition("  #")[0].strip() not in NOT_RUN]
        begin = time.time()
        done = self.shell("set -e\n" + "\n".join(lines))
        print(f"{where}: {time.time() - begin:.1f} s", file=sys.__stderr__)
        if done.returncode:
            self.failures.append(f"{where}: status {done.returncode}\n{script}\n{done.stdout[-3000:]}")

    def compare(self, where: str, text: str) -> None:
        """Type a command after `$` and compare what follows with what it prints."""
        for typed, shown in re.findall(r"(?ms)^\$ ([^\n]+)\n(.*?)(?=^\$ |\Z)", text):
            printed = self.shell(typed).stdout
            if missing := [line for line in shown.splitlines() if line not in printed]:
                self.failures.append(f"{where}: not printed: {missing}\n{printed}")

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        if re.search(r"\bRUN\b", script):
            if not (self.folder / "outputs" / "first").exists():
                self.shell("atomiclm train model=tiny name=first")
            script = NEWEST_RUN + re.sub(r"\bRUN\b", "$(newest_run)", script)
        return subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
        )  # fmt: skip


@pytest.fixture
def reader(tmp_path):
    reader = Reader(tmp_path)
    yield reader
    reader.server.terminate()
    reader.server.wait()


def test_readme(reader):
    reader.read("README.md")
    assert not reader.failures, "\n\n".join(reader.failures)


@pytest.mark.slow
def test_pages(reader):
    for page in PAGES[1:]:
        reader.read(page)
    assert not reader.failures, "\n\n".join(reader.failures)


def test_every_page_is_read_and_every_exception_is_used():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {"docs/contributing.md", "docs/changelog.md"} == set(PAGES) - {"README.md"}
    shown = "\n".join(block.text for page in [*PAGES, "CONTRIBUTING.md"] for block in blocks(page))
    assert [command for command in NOT_RUN if command not in shown] == []


def test_no_command_line_is_hidden_in_a_sentence():
    for page in PAGES:
        prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", (ROOT / page).read_text(encoding="utf-8"))
        assert (
            re.findall(r"`[^`\n]*(?:python -m atomiclm\.\w+|atomiclm (?!COMMAND)[a-z]+) [^.`\n][^`\n]*`", prose) == []
        ), page
