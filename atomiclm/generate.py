"""`python -m atomiclm.generate RUN --prompt "..."`: text from a trained model, as it is drawn."""

import argparse
import sys
from collections.abc import Sequence

from atomiclm.cli import VERSION, UserError, command, from_user
from atomiclm.machine import wait_briefly
from atomiclm.tracking import find_run


@command("generate")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    folder, checkpoint = find_run(arguments.run, arguments.outputs)
    wait_briefly()
    from atomiclm.config.load import load_run
    from atomiclm.generation import Sampler, generate
    from atomiclm.tokenizer import END_OF_TEXT, IncrementalDecoder
    from atomiclm.training import Runtime

    with from_user():
        sampler = Sampler(arguments.temperature, arguments.top_k, arguments.top_p, arguments.min_p)
        device = Runtime(device=arguments.device).device
    if arguments.samples < 1:
        raise UserError(f"--samples {arguments.samples} is not positive; give at least 1")
    trained = load_run(folder, checkpoint, device)
    tokenizer = trained.tokenizer
    end_of_text = tokenizer.special_tokens[END_OF_TEXT]
    prompt = tokenizer.encode(arguments.prompt) or [end_of_text]
    for number in range(arguments.samples):
        if arguments.samples > 1:
            print(f"--- sample {number + 1}, seed {arguments.seed + number}")
        print(arguments.prompt, end="", flush=True)
        decoder = IncrementalDecoder(tokenizer)

        def show(row: int, token: int, decoder: IncrementalDecoder = decoder) -> None:
            if token != end_of_text:
                print(decoder.push(token), end="", flush=True)

        generate(
            trained.model,
            [prompt],
            arguments.max_tokens,
            sampler,
            seed=arguments.seed + number,
            stop_tokens=frozenset([end_of_text]),
            on_token=show,
            never=tokenizer.unused_ids(trained.model.vocab_size),
        )
        print(decoder.finish(), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atomiclm.generate", description="Text from a trained model.")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("run", help="a run folder, a checkpoint folder in it, or a run id under --outputs")
    parser.add_argument("--prompt", default="", help="text to continue; default: the start of a document")
    parser.add_argument("--max-tokens", type=int, default=200, help="tokens to draw at most (default 200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default 0.8)")
    parser.add_argument("--top-k", type=int, help="draw from the k likeliest tokens only")
    parser.add_argument("--top-p", type=float, help="draw from the fewest tokens whose probabilities reach p")
    parser.add_argument("--min-p", type=float, help="leave out tokens less likely than p times the likeliest")
    parser.add_argument("--samples", type=int, default=1, help="texts to draw (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same text (default 1)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"), help="(default cpu)")
    parser.add_argument("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
