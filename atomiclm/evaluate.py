"""`atomiclm evaluate RUN...`: finished runs evaluated by one protocol or several.

    bits_per_byte           windows end to end, as the run's own validation; also by source, and answers that are right
    sliding                 windows that overlap (--stride), so that every token has nearly a full context
    by_position             the loss at each position of the window
    length_extrapolation    windows of several times the context trained on (--lengths)
    induction               copying a random string from so many tokens ago (--distances)
    recall                  answers that are right, of sources that know theirs
    decode                  milliseconds a token when the model writes, its cache, the memory's speed that it uses

With --save the results are saved in RUN/evaluations, where the page of `compare` shows them, and printed from there
when they are asked for again. Figures of unlike protocols are not to be compared; each file says what its figures
depend on.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError, command, command_parser, format_error, from_user, say_if_slow, whole_number

if TYPE_CHECKING:
    from atomiclm.config.evaluating import LoadedRun
    from atomiclm.evaluation import EvaluationProtocol, EvaluationResult

EXAMPLES = """\
examples:
  atomiclm evaluate RUN
  atomiclm evaluate RUN RUN --protocol sliding by_position --save
  atomiclm evaluate RUN --format json

Exit codes: 0; 1 no usable figures, or they could not be saved; 2 a run cannot be evaluated as asked."""

PROTOCOLS = ("bits_per_byte", "sliding", "by_position", "length_extrapolation", "induction", "recall", "decode")


@command("evaluate")
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate each run; where one cannot be, the exit status says so, and the others are evaluated all the same."""
    arguments = parser().parse_args(argv)
    from atomiclm.machine import wait_briefly

    wait_briefly()  # before torch is imported
    with say_if_slow("importing torch", quiet=arguments.quiet):
        from atomiclm.evaluation.results import NotFinite, to_csv, to_json, to_json_lines

    results: list[tuple[str, EvaluationResult]] = []
    status = 0
    for run in arguments.runs:
        try:
            results.extend(_evaluated(run, arguments))
        except UserError as error:
            print(f"atomiclm evaluate: {error}", file=sys.stderr)
            status = 2
        except BrokenPipeError:
            raise
        except (OSError, NotFinite) as error:
            print(f"atomiclm evaluate: {format_error(error)}", file=sys.stderr)
            status = max(status, 1)
    if arguments.format != "terminal":
        written = {"json": to_json, "json_lines": to_json_lines, "csv": to_csv}[arguments.format]
        print(written(results), end="")
    return status


def parser() -> argparse.ArgumentParser:
    parser = command_parser("evaluate", __doc__, EXAMPLES)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a run folder, a checkpoint folder in it, or a run id")
    add("--protocol", nargs="+", choices=PROTOCOLS, metavar="NAME", help="one or more of the above (default: "
        "bits_per_byte, and recall where answers are known)")  # fmt: skip
    add("--stride", type=int, default=64, metavar="TOKENS", help="of sliding windows (default 64)")
    add("--lengths", type=_whole_numbers, default=(1, 2, 4, 8), metavar="K,...", help="in contexts (default 1,2,4,8)")
    add("--distances", type=_whole_numbers, metavar="TOKENS,...", help="of induction (default: powers of two)")
    add("--source", default="", metavar="NAME", help="one source of a mixture alone")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the model changed for the evaluation: "
        "model/position=yarn model.position.factor=4; the weights must fit")  # fmt: skip
    add("--save", action="store_true", help="save the results in RUN/evaluations")
    add("--again", action="store_true", help="measure even what is saved; with --save, replace it")
    add("--format", choices=("terminal", "json", "csv"), default="terminal", help="(default terminal)")
    add(
        "--json", action="store_const", dest="format", const="json_lines", help="one JSON object a line for each result"
    )
    add(
        "--batch-size",
        type=whole_number(),
        default=32,
        help="windows in a forward pass (default 32); long ones fewer",
    )
    add("--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"), help="(default cpu)")
    add("-q", "--quiet", action="store_true", help="print results and errors, not what is being done")
    add("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return parser


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers; give them as 1,2,4") from None


def _evaluated(text: str, arguments: argparse.Namespace) -> Iterator[tuple[str, "EvaluationResult"]]:
    """The results of one run, with its path; printed as they come, if for a terminal."""
    from atomiclm.tracking import find_run

    folder, checkpoint = find_run(text, arguments.outputs)
    with say_if_slow(f"reading {folder.path}", quiet=arguments.quiet):
        from atomiclm.config.evaluating import LoadedRun
        from atomiclm.evaluation.results import read_result, to_terminal

        loaded = LoadedRun(folder, checkpoint, arguments.device, arguments.source, arguments.set)
    questions = [(each, loaded.path_of(each)) for each in _protocols(arguments, loaded)]
    run, unsaved = str(folder.path), list[OSError]()
    for protocol, path in questions:  # all have been refused before one is measured
        saved = path.is_file() and not arguments.again
        with say_if_slow(f"measuring {protocol.name}", quiet=arguments.quiet):
            result = read_result(path) if saved else loaded.measured(protocol, arguments.batch_size)
        if arguments.format == "terminal":
            for line in to_terminal(run, result, saved, loaded.conditions.validation_bytes):
                print(line, flush=True)
        yield run, result
        try:
            if not saved:
                data = result.to_json()  # refuses figures that are not finite, saved or not
                if arguments.save:
                    path.parent.mkdir(exist_ok=True)
                    write_atomic(path, data)
        except OSError as error:
            unsaved.append(OSError(error.errno, f"{error.strerror}: the figures were not saved", error.filename))
    if unsaved:  # all have been shown
        raise unsaved[0]


def _protocols(arguments: argparse.Namespace, loaded: "LoadedRun") -> list["EvaluationProtocol"]:
    from atomiclm.evaluation import BitsPerByte, ByPosition, Decode, Induction, LengthExtrapolation, Recall, Sliding

    made: dict[str, Callable[[], EvaluationProtocol]] = {
        "bits_per_byte": BitsPerByte,
        "sliding": lambda: Sliding(arguments.stride),
        "by_position": ByPosition,
        "length_extrapolation": lambda: LengthExtrapolation(arguments.lengths),
        "induction": lambda: Induction(distances=arguments.distances),
        "recall": Recall,
        "decode": lambda: Decode(loaded.runtime.device, loaded.runtime.device_name()),
    }
    names = arguments.protocol or ["bits_per_byte", *(["recall"] if loaded.knows_answers else [])]
    with from_user():
        return [made[name]() for name in dict.fromkeys(names)]


if __name__ == "__main__":
    sys.exit(main())
