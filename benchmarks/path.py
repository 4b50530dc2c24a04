"""How much code a command passes through before it trains, and what its start costs.

    python benchmarks/path.py [PAIRS]

Printed are the files and functions of atomiclm entered between `main` and the first training step, the compositions of
a configuration, the decoders constructed, and the CPU seconds until the text is prepared: of one run, and of a study
until its first cell trains. Then what the start, `--help` and `--cfg job` cost beside a bare Hydra application that
composes the same tree once (in turn, median of PAIRS), and what one forward pass of the default decoder goes through.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

BARE = f"""
import hydra
@hydra.main(version_base="1.3", config_path={str(ROOT / "conf")!r}, config_name="config")
def main(config): pass
main()
"""

# Runs a module as `python -m` does and reports what it entered. A function is reported to us once, its first time, so
# that watching costs next to nothing; those that are counted, every time.
WATCH = """
import inspect, os, runpy, sys, time
package, last, module = sys.argv[1:4]
counted = {"ConfigLoaderImpl.load_configuration": 0, "Decoder.__init__": 0}
entered, seconds = set(), 0.0

def report():
    files = {code.co_filename for code in entered}
    compositions, decoders = counted.values()
    out = sys.__stdout__  # a cell of a sweep prints into its log
    print(f"@{len(files)} files, {len(entered)} functions, {compositions} compositions, {decoders} decoders, "
          f"{seconds:.2f} CPU seconds to the text", file=out)
    if os.environ.get("LIST"):
        for file, line, name in sorted((code.co_filename, code.co_firstlineno, code.co_qualname) for code in entered):
            print(f"@  {file.removeprefix(package)}:{line} {name}", file=out)
    out.flush()
    os._exit(0)

def start(code, offset):
    global seconds
    # Neither a module nor the body of a class is a function; a lambda and a generator expression belong to theirs.
    function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
    if code.co_filename.startswith(package) and function:
        if code.co_qualname in last.split(","):
            report()
        entered.add(code)
        if code.co_qualname == "prepare" and code.co_filename.startswith(package + "/data/"):
            seconds = seconds or time.process_time()
    if code.co_qualname not in counted:
        return monitoring.DISABLE
    counted[code.co_qualname] += 1

monitoring = sys.monitoring
monitoring.use_tool_id(monitoring.PROFILER_ID, "path")
monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.PY_START, start)
monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
sys.argv[:] = [module, *sys.argv[4:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""

FORWARD = f"""
import sys, torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
with initialize_config_dir({str(ROOT / "conf")!r}, version_base="1.3"):
    model = instantiate(compose("config").model, _convert_="all").eval()
entered = set()
def start(frame, event, argument):
    if event == "call" and frame.f_code.co_filename.startswith({str(ROOT / "atomiclm")!r}):
        entered.add(frame.f_code)
with torch.no_grad():
    sys.setprofile(start)
    model(torch.zeros(2, 8, dtype=torch.long))
    sys.setprofile(None)
print(len({{code.co_filename for code in entered}}), "files,", len(entered), "functions")
"""


def run(folder: Path, *command: str) -> tuple[str, float]:
    """Run Python with `command` in `folder`. Returns what it printed, and its CPU seconds."""
    settings = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    before = os.times()
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=os.environ | settings, capture_output=True, text=True
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout, after.children_user + after.children_system - before.children_user - before.children_system


def watched(folder: Path, *arguments: str) -> tuple[list[str], float]:
    """Train until the first step. Returns the lines that say what was entered, and the CPU seconds to the text."""
    output, _ = run(
        folder, "-c", WATCH, str(ROOT / "atomiclm"), "Trainer.step,Trainer._step", "atomiclm.train", *arguments
    )
    lines = [line[1:] for line in output.splitlines() if line.startswith("@")]
    return lines, float(lines[0].split(", ")[-1].split()[0])


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    one = ["model=small", "optim.lr=3e-4"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arguments in (one, ["-m", "experiments=gqa_ratio", "runtime.parallel=1"]):
            watched(folder, *arguments)  # the text is prepared once and found from then on
            print(f"train {' '.join(arguments)}:", *watched(folder, *arguments)[0], sep="\n  ")
        print("forward pass of the default decoder:", run(folder, "-c", FORWARD)[0], sep="\n  ", end="")
        costs: dict[str, list[float]] = {}
        for _ in range(pairs):
            for label, seconds in {
                "bare Hydra": lambda: run(folder, "-c", BARE, *one)[1],
                "import torch": lambda: run(folder, "-c", "import torch")[1],
                "train to the text": lambda: watched(folder, *one)[1],
                "bare Hydra --help": lambda: run(folder, "-c", BARE, "--help")[1],
                "train --help": lambda: run(folder, "-m", "atomiclm.train", "--help")[1],
                "bare Hydra --cfg job": lambda: run(folder, "-c", BARE, *one, "--cfg", "job")[1],
                "train --cfg job": lambda: run(folder, "-m", "atomiclm.train", *one, "--cfg", "job")[1],
            }.items():
                costs.setdefault(label, []).append(seconds())
    print(f"CPU seconds, median and range of {pairs}:")
    for label, found in costs.items():
        print(f"  {label:22} {statistics.median(found):5.2f}  ({min(found):.2f} to {max(found):.2f})")
    for asked in ("--help", "--cfg job"):
        ratios = [ours / bare for ours, bare in zip(costs[f"train {asked}"], costs[f"bare Hydra {asked}"], strict=True)]
        print(f"  {asked}: {statistics.median(ratios):.2f} times bare Hydra ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
