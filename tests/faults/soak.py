"""Disturb random configurations for a given time, count, and fail on the first run that is not bit-equal.

    python tests/faults/soak.py --seconds 3600 --seed 1 [--kinds kill,term,full,damage,pair] [--compiled]
                                [--kills 200] [--counts counts.json] [--folder /where/there/is/room]

The same seed gives the same trials: configurations, faults and aimed moments; the moments themselves are the machine's.
Ends when the time is up or so many kills have landed. A trial's folder is removed when it ends bit-equal, and kept when
it does not; the exit status is then 1.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for cli and faults, which tests find through pytest

from faults import trials
from faults.counts import Counts
from faults.disk import CannotMount
from faults.harness import Unequal
from faults.matrix import drawn
from faults.workshop import Workshop


def main() -> int:
    """Run the soak; return the exit status."""
    asked = _arguments()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(folder)
    counts = Counts.load(asked.counts) if asked.counts else Counts()
    begun, failed, index = time.monotonic(), 0, 0
    while time.monotonic() - begun < asked.seconds and (asked.kills is None or counts.faults["kill"] < asked.kills):
        chance = random.Random(f"{asked.seed}/{index}")
        kind = asked.kinds[index % len(asked.kinds)]
        place = folder / f"trial_{asked.seed}_{index:04d}"
        shutil.rmtree(place, ignore_errors=True)
        of_this = Counts()
        try:
            trials.KINDS[kind](workshop, place, drawn(chance, index, asked.compiled), chance, of_this)
            result = "bit-equal"
        except Unequal as unequal:
            failed, result = failed + 1, f"DIFFERENT, kept in {place}\n{unequal}"
        except CannotMount as error:
            print(f"no small disk here: {error}")
            return 2
        (configuration,) = of_this.configurations
        faults = ", ".join(f"{count} {name}" for name, count in of_this.faults.items())
        hits = ", ".join(f"{count} {name}" for name, count in of_this.hits.items())
        seconds = time.monotonic() - begun
        print(f"{seconds:6.0f} s  {index:4d} {kind}: {configuration}: {faults} ({hits}): {result}", flush=True)
        counts.add(of_this)
        if asked.counts:
            counts.save(asked.counts)
        if result == "bit-equal":
            shutil.rmtree(place, ignore_errors=True)
            place.with_name(f"{place.name}.log").unlink(missing_ok=True)
        index += 1
    print(counts.table())
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", type=_kinds, default=list(trials.KINDS), help=",".join(trials.KINDS))
    parser.add_argument("--compiled", action="store_true", help="with runtime.compile=true: minutes for the first runs")
    parser.add_argument("--kills", type=int, help="end when so many SIGKILLs have landed, those of --counts included")
    parser.add_argument("--counts", type=Path, help="a JSON file that adds up over calls")
    parser.add_argument("--folder", type=Path, help="where trials run; a temporary folder otherwise")
    return parser.parse_args()


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := set(kinds) - set(trials.KINDS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is none of {', '.join(trials.KINDS)}")
    return kinds


if __name__ == "__main__":
    sys.exit(main())
