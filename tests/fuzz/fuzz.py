"""Put hostile files before every reader of a stranger's file, and count what comes of them.

    python tests/fuzz/fuzz.py --seconds 300 --seed 1          goes on with fresh inputs for that long
    python tests/fuzz/fuzz.py --family texts --seed 1 --only 17        one input again, with its traceback
    python tests/fuzz/fuzz.py --family texts --only "bomb a.txt.zst"
    python tests/fuzz/fuzz.py --family texts --seconds 0 --by-hypothesis 2000      a failing one is made small

The same seed gives the same inputs. What breaks the law of `judge.py` is kept in the folder that is named at the end.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # so that the package is `fuzz`, and not this file

from fuzz.families import FAMILIES  # noqa: E402
from fuzz.running import Report, run  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="wall-clock seconds for all families together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=FAMILIES, help="this one alone")
    parser.add_argument(
        "--by-hypothesis",
        type=int,
        default=0,
        metavar="COUNT",
        help="more inputs a family, drawn by hypothesis, which makes one that breaks the law as small as it can",
    )
    parser.add_argument("--only", metavar="INPUT", help="one input of that family: its number, or its name")
    arguments = parser.parse_args()
    if arguments.only is not None and arguments.family is None:
        parser.error("--only needs --family")
    kept = Path(tempfile.mkdtemp(prefix="fuzz-kept-"))
    families = [arguments.family] if arguments.family else list(FAMILIES)
    reports = []
    for family in families:
        seconds = arguments.seconds / len(families)
        limits = {"seconds": seconds, "only": arguments.only, "by_hypothesis": arguments.by_hypothesis}
        report = run(family, arguments.seed, kept, **limits)
        reports.append(report)
        print(report.line(), flush=True)
        for fault in report.faults:
            print(f"  {fault}", flush=True)
    print(Report.total(reports).line())
    if any(report.faults for report in reports):
        print(f"faults are kept in {kept}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
