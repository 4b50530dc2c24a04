"""A corpus into shards by one process and by two, alternately; or killed at ten moments and rerun.

    python benchmarks/preparing.py PATH [--rounds N]     # any data.path: a folder, s3://bucket/folder, ...
    python benchmarks/preparing.py PATH --kills 10       # hashes against one undisturbed worker's, and the most memory

`train` is from nothing: read, train the tokenizer (one process), encode. `encode` has the tokenizer and the survey of
the text already. Beside the wall time there is the CPU time that two free cores would have to wait for: that of the
first process and of the busiest worker. Memory is the sum over all processes of their own share (Pss).
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

CLOCK_TICKS = 100


def processes(root: int) -> list[int]:
    """A process and those that it started."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


class Watch:
    """CPU seconds of each process of a command, and the most memory of all together."""

    def __init__(self) -> None:
        self.cpu: dict[int, float] = {}
        self.peak_bytes = 0

    def look(self, root: int) -> None:
        total = 0
        for one in processes(root):
            with suppress(OSError, StopIteration):
                fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                self.cpu[one] = (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
                lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
                total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        self.peak_bytes = max(self.peak_bytes, total)


def command(path: str, cache: Path, workers: int) -> list[str]:
    settings = ["data=text", f"data.path={path}", f"cache_dir={cache}", f"runtime.data_workers={workers}"]
    settings += ["tokenizer.vocab_size=4096", "model.context_length=256", "data.validation_fraction=0.01"]
    return [sys.executable, "-m", "atomiclm.prepare", "--json", *settings]


def prepared(path: str, cache: Path, workers: int, kill_at_shards: int | None = None) -> tuple[dict, float, Watch]:
    """(manifest, wall seconds, watch); with `kill_at_shards` it is killed when so many shards are there."""
    watch, began = Watch(), time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command(path, cache, workers), stdout=output, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            watch.look(process.pid)
            if kill_at_shards is not None and len(list(cache.glob("spans/*/[!.]*/manifest.json"))) >= kill_at_shards:
                process.kill()
            time.sleep(0.2)
        seconds = time.perf_counter() - began
        if kill_at_shards is not None:
            assert process.returncode == -9, "it was done before it could be killed"
            return {}, seconds, watch
        assert process.returncode == 0
        output.seek(0)
        return json.loads(output.read().splitlines()[-1]), seconds, watch


def measure(path: str, rounds: int, folder: Path) -> None:
    ratios: dict[str, list[tuple[float, float]]] = {"train": [], "encode": []}
    for number in range(rounds):
        times: dict[tuple[str, int], tuple[float, float]] = {}
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            for stage in ratios:
                manifest, seconds, watch = prepared(path, cache, workers)
                first, *others = watch.cpu.values()
                times[stage, workers] = seconds, first + max(others, default=0.0)
                size = manifest["train"]["bytes"] + manifest["validation"]["bytes"]
                print(
                    f"{stage} by {workers}: {size / 1e6:.0f} MB, {seconds:.1f} s, CPU {sum(watch.cpu.values()):.1f} s "
                    f"({', '.join(f'{one:.1f}' for one in watch.cpu.values())}), "
                    f"{watch.peak_bytes / 1e6:.0f} MB of memory",
                    flush=True,
                )
                shutil.rmtree(cache / "shards")
        for stage, pairs in ratios.items():
            pairs.append(tuple(one / two for one, two in zip(times[stage, 1], times[stage, 2], strict=True)))
    for stage, pairs in ratios.items():
        for name, values in zip(("wall", "CPU to wait for"), zip(*pairs, strict=True), strict=True):
            spread = f"{min(values):.2f} to {max(values):.2f}"
            print(
                f"{stage}: one worker's {name} over two's: {statistics.median(values):.2f} ({spread}, {rounds} rounds)"
            )


def kill(path: str, kills: int, folder: Path) -> None:
    peak = 0
    for number in range(kills):
        _, seconds, watch = prepared(path, folder / "killed", 2, kill_at_shards=number + 1)
        peak = max(peak, watch.peak_bytes)
        print(f"killed after {seconds:.1f} s with {number + 1} shards or more", flush=True)
    survivor, _, watch = prepared(path, folder / "killed", 2)
    peak = max(peak, watch.peak_bytes)
    print(f"finished by two workers; at most {peak / 1e6:.0f} MB of memory", flush=True)
    alone, _, watch = prepared(path, folder / "alone", 1)
    same = survivor["files"] == alone["files"] and survivor["validation_sha256"] == alone["validation_sha256"]
    print(f"one undisturbed worker: at most {watch.peak_bytes / 1e6:.0f} MB; hashes equal: {same}")
    assert same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.kills:
            kill(arguments.path, arguments.kills, Path(folder))
        else:
            measure(arguments.path, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
