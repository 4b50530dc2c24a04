"""Mirrors runs in a process of its own, with the real wandb, and reads back what it left on disk."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from cli import heed_signals

from atomiclm.atomic_io import to_json
from atomiclm.sweep.ledger import Cell, StudyLedger, write_ledger
from atomiclm.sweep.study import Study
from atomiclm.tracking import Record, RunFolder, write_summary

DRIVER = """
import json, os, signal, sys, threading, time
from pathlib import Path
from atomiclm.tracking import Place, Record, RunFolder, WeightsAndBiases, read_summary, write_summary

said, waits = [], []
def timed(name, action, *arguments, **named):
    before = time.monotonic()
    result = action(*arguments, **named)
    waits.append((name, time.monotonic() - before))
    return result

for cell in json.load(sys.stdin):
    exec(cell.get("before", ""))
    folder = RunFolder(Path(cell["folder"]))
    record = Record(folder.metrics)
    record.truncate(cell.get("after_step", -1))
    mirror = WeightsAndBiases(**cell.get("settings", {}))
    timed("start", mirror.start, folder, said.append, Place(**cell.get("place", {})))
    deadline = time.monotonic() + 30
    while cell.get("until_said", "") not in " ".join(said) and time.monotonic() < deadline:
        time.sleep(0.05)
    exec(cell.get("then", ""))
    for row in cell["rows"]:
        timed("append", record.append, row)
        time.sleep(cell.get("pause", 0))
    time.sleep(cell.get("linger", 0))
    if cell.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.get("interrupt_after"):
        threading.Timer(cell["interrupt_after"], os.kill, (os.getpid(), signal.SIGINT)).start()
    figures = {"state": cell.get("state", "done"), "validation/loss": 1.5, "anchors": {"bigram": 3.0}}
    write_summary(folder.summary, {**read_summary(folder.summary), **figures, **cell.get("summary", {})})
    result = {"sent": mirror.sent} if timed("finish", mirror.finish) else None
    record.close()
facts = {"result": result, "wandb": "wandb" in sys.modules, "torch": "torch" in sys.modules}
print(json.dumps({"said": said, "waits": waits, "ended": time.time(), **facts}))
"""

FACTS = {"parameters": 10, "vocab_size": 300, "corpus_sha256": "c" * 64, "validation_sha256": "v" * 64}


def make_run(path, **summary):
    """A run folder as it is when training begins."""
    folder = RunFolder(Path(path))
    folder.path.mkdir(parents=True)
    config = {"model": {"dim": 8, "lr": 3e-4}, "data": {"path": "/somewhere/text"}, "name": folder.name, "seed": 1}
    folder.config.write_text(yaml.safe_dump(config))
    identity = {"name": folder.name, "run_id": folder.run_id, "variant": "0123abcd", "seed": 1}
    write_summary(folder.summary, {"state": "running", **identity, **FACTS, **summary})
    processes = [{"python": "3", "command": ["old"]}, {"python": "3.12", "command": ["new"], "variables": {}}]
    write_summary(folder.environment, {"processes": processes})
    folder.tokenizer.write_text('{"merges": []}')
    return str(folder.path)


def make_sweep(folder, seeds=(1, 2)):
    """The folder of a finished sweep over two factors, of which `kv` alone matters, and its ledger."""
    cells = []
    for kv, theta, seed in itertools.product(("4", "1"), ("1e3", "1e5"), seeds):
        run_id = f"num_kv_heads={kv}-theta={theta}-seed={seed}-{kv}{theta[-1]}{seed}".ljust(48, "0")
        bits = 2 + 0.5 * (kv == "1") + 0.01 * seed + 0.001 * (seed == 1) * (theta == "1e5")
        figures = {"validation/bits_per_byte": bits, "validation/loss": bits}
        figures["protocol"] = {"protocol": "bits_per_byte", "compared": {}, "recorded": {}}
        path = make_run(folder / run_id, variant=f"{kv}-{theta}", seed=seed, **{**figures, "state": "done"})
        with Record(Path(path) / "metrics.jsonl") as record:
            for each in loss_rows(1, 2):
                record.append(each)
        overrides = [f"model.attention.num_kv_heads={kv}", f"model.position.theta={theta}", f"seed={seed}"]
        cells.append(Cell(f"kv{kv} theta{theta}", seed, run_id, overrides))
    write_ledger(folder, StudyLedger(folder.name, "", cells, Study(question="Which of these matter?", margin=0.05)))
    return folder


def row(step, event="train", **values):
    return {"event": event, "step": step, "tokens": step * 64, "seconds": step * 0.5, "flops": step * 1e9, **values}


def loss_rows(*steps):
    return [row(step, **{"train/loss": 10.0 - step}) for step in steps]


def sandbox(tmp_path, **variables):
    """An environment in which wandb finds no key and writes nowhere but below tmp_path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "NETRC", "XDG"))}
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    places = {"HOME": str(home), "NETRC": str(home / ".netrc"), "PYTHONPATH": str(Path(__file__).parents[1])}
    return {**kept, **places, **variables}


def drive(tmp_path, cells, killed=False, prefix=(), **variables):
    """Mirror the cells one after the other; what was said, how long each call took, what the last one returned."""
    began = time.time()
    # In a session of its own: the wandb service must be able to outlive nothing but this call.
    process = subprocess.run(
        [*prefix, sys.executable, "-c", DRIVER],
        input=to_json(cells).decode(),
        env=sandbox(tmp_path, **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,
        preexec_fn=heed_signals,
    )
    if killed:
        assert process.returncode == -9, process.stderr
        return None
    assert process.returncode == 0, process.stderr
    answer = json.loads(process.stdout.strip().splitlines()[-1])
    # On a busy machine the end of any run may have to wait long enough to say so.
    waiting = "W&B: waiting for the upload"
    answer["waited"] = [line for line in answer["said"] if line.startswith(waiting)]
    answer["said"] = [line for line in answer["said"] if not line.startswith(waiting)]
    answer["took"] = time.time() - began
    return answer


def segments(folder):
    return sorted((Path(folder) / "wandb").glob("*run-*-*"))


def read_segment(tmp_path, segment):
    """Records by type, with wandb's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(segment)]
    answer = subprocess.run(command, env=sandbox(tmp_path), capture_output=True, text=True, check=True)
    records = {}
    for record in map(json.loads, answer.stdout.splitlines()):
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records


def history(records):
    return [record["item"] for record in records["history"]]


def steps(tmp_path, segment):
    return [item["step"] for item in history(read_segment(tmp_path, segment))]
