"""The tokenizer beside rustbpe, Hugging Face `tokenizers` and tiktoken: same text, same vocabulary, in turn.

    python benchmarks/tokenizer.py train  english.txt multilingual.txt ...   [--rounds 5] [--vocab-size 32768]
    python benchmarks/tokenizer.py encode english.txt multilingual.txt ...   [--rounds 5] [--vocab-size 32768]
    python benchmarks/tokenizer.py worst                                     one pretoken of a megabyte, and its growth
    python benchmarks/tokenizer.py memory english.txt ...  [--stream-mb 300] peak memory over start
    python benchmarks/tokenizer.py start                                     CPU seconds until the kernels are loaded

A file named `stdlib` is the Python standard library's source. `train` trains on each file alone and on all together,
`encode` trains on all together and encodes each. Every figure is CPU time of this process, all sides single-threaded,
in turn within each round; printed are medians and the range of the ratios of single rounds. Documents are pieces of
about 16 KB. Merges and ids are compared before they are timed. rustbpe and tiktoken are in the dev group (`uv sync`).
"""

import os

os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

import argparse
import gc
import random
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rustbpe
import tiktoken
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from atomiclm.tokenizer import END_OF_TEXT, PATTERNS, BasicTokenizer, fast

DOCUMENT_CHARACTERS = 16_000
PATTERN = PATTERNS["gpt4"]


def read(name: str) -> str:
    if name == "stdlib":
        files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
        files = [file for file in files if "site-packages" not in file.parts]
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    return Path(name).read_text(encoding="utf-8", errors="replace")


def documents(text: str) -> list[str]:
    # Without the separators some files have: to rustbpe and tokenizers they are text to learn.
    return [
        part[start : start + DOCUMENT_CHARACTERS]
        for part in text.split(END_OF_TEXT)
        for start in range(0, len(part), DOCUMENT_CHARACTERS)
    ]


def cpu_seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def in_turn(label: str, sides: dict[str, Callable[[], Any]], rounds: int, megabytes: float) -> None:
    """Time the sides in turn; the first is ours, and what is printed of another is how many times as long it took."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            times[name].append(cpu_seconds(work))
    ours = times[next(iter(sides))]
    for name, theirs in times.items():
        ratios = sorted(other / own for own, other in zip(ours, theirs, strict=True))
        median = statistics.median(theirs)
        print(
            f"{label:24} {name:22} {median:8.3f} CPU s {megabytes / median:8.1f} MB/s   "
            f"ratio {statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


# ---------------------------------------------------------------------------------------------------------- training


def train_ours(texts: Sequence[str | bytes], vocab_size: int, tie_break: Any = "bytes") -> BasicTokenizer:
    tokenizer = BasicTokenizer(vocab_size + 1, tie_break=tie_break)
    tokenizer.train_from_iterator(piece for text in texts for piece in (text, END_OF_TEXT))
    return tokenizer


def train_rustbpe(texts: list[str], vocab_size: int) -> Any:
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), vocab_size, pattern=PATTERN)
    return tokenizer


def train_huggingface(texts: list[str], vocab_size: int) -> Any:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


def bench_train(names: list[str], rounds: int, vocab_size: int) -> None:
    corpora = {Path(name).stem: documents(read(name)) for name in names}
    if len(corpora) > 1:
        corpora["+".join(corpora)] = [text for texts in corpora.values() for text in texts]
    for name, texts in corpora.items():
        ranks = dict(train_rustbpe(texts, vocab_size).get_mergeable_ranks())
        ours = train_ours(texts, vocab_size)
        same = [ours.decode_bytes([token]) for token in range(len(ranks))] == list(ranks)
        print(f"{name}: merges {'identical to' if same else 'DIFFER from'} rustbpe's ({len(ours.merges):,})")
        sides = {
            "atomiclm": lambda texts=texts: train_ours(texts, vocab_size),
            "rustbpe": lambda texts=texts: train_rustbpe(texts, vocab_size),
            "tokenizers": lambda texts=texts: train_huggingface(texts, vocab_size),
        }
        in_turn(f"train {name}"[:24], sides, rounds, sum(len(text.encode()) for text in texts) / 1e6)


# ---------------------------------------------------------------------------------------------------------- encoding


def bench_encode(names: list[str], rounds: int, vocab_size: int) -> None:
    corpora = {Path(name).stem: read(name) for name in names}
    ours = train_ours([piece for text in corpora.values() for piece in documents(text)], vocab_size)
    ranks = {ours.decode_bytes([token]): token for token in range(ours.vocab_size - 1)}
    theirs = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    fresh_ones = [BasicTokenizer.from_state(ours.state()) for _ in range(rounds * 2)]
    for name, text in corpora.items():
        same = ours.encode(text) == theirs.encode_ordinary(text)
        print(f"{name}: ids {'identical to' if same else 'DIFFER from'} tiktoken's")
        megabytes = len(text.encode()) / 1e6

        def fresh() -> Iterator[BasicTokenizer]:
            for tokenizer in fresh_ones:
                tokenizer._encoders = None
                tokenizer.encode_array("The kernels are loaded and the tables built.\n" * 30_000)
                yield tokenizer

        for to, work, label in (
            (lambda t, text=text: t.encode_array(text), lambda text=text: theirs.encode_to_numpy(text), "array"),
            (lambda t, text=text: t.encode(text), lambda text=text: theirs.encode_ordinary(text), "list"),
        ):
            supply = fresh()
            ready = [next(supply) for _ in range(rounds)]
            in_turn(
                f"{name} fresh, {label}"[:24],
                {"atomiclm": lambda to=to, ready=ready: to(ready.pop()),
                 "tiktoken (list)": lambda text=text: theirs.encode_ordinary(text),
                 **({"tiktoken (array)": work} if label == "array" else {})},
                rounds, megabytes,
            )  # fmt: skip
            in_turn(f"{name} repeated, {label}"[:24], {"atomiclm": lambda to=to: to(ours)}, rounds, megabytes)


# ------------------------------------------------------------------------------------------------------- worst cases


def bench_worst(rounds: int) -> None:
    rng = random.Random(0)
    size = 1_000_000
    cases = {
        "all a": "a" * size,
        "random letters": "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=size)),
        "blanks, then x": " " * (size - 1) + "x",
        "newlines and blanks": "\n " * (size // 2),
        "carets": "^" * size,
        "random CJK": "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(size // 3)),
    }
    base = train_ours(documents(read("stdlib"))[:600], 8192)
    for name, text in cases.items():
        encode, train = {}, {}
        for thousands in (300, 1000, 3000):  # of bytes
            part = (text * 3)[-(len(text) * thousands // 1000) :].encode()
            encode[thousands] = statistics.median(
                cpu_seconds(lambda part=part: base.encode_array(part)) for _ in range(rounds)
            )
            train[thousands] = statistics.median(
                cpu_seconds(lambda part=part: train_ours([part], 1024)) for _ in range(rounds)
            )
        print(
            f"{name:20} encode {encode[1000]:6.3f} CPU s (10 times as long: {encode[3000] / encode[300]:4.1f})   "
            f"train {train[1000]:6.3f} CPU s (10 times as long: {train[3000] / train[300]:4.1f})"
        )


# ------------------------------------------------------------------------------------------------ memory and start


def _peak_mb() -> float:
    # Not ru_maxrss: a child inherits that of the process that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _blocks(names: list[str], stream_mb: int) -> Iterator[bytes]:
    """The files, or for a stream their text over and over, every tenth word changed to one not seen before."""
    if not stream_mb:
        for name in names:
            with Path(name).open("rb") as file:
                yield from iter(lambda file=file: file.read(1 << 20), b"")
        return
    sent = 0
    rng = random.Random(0)
    while sent < stream_mb * 1_000_000:
        with Path(names[0]).open("rb") as file:
            for block in iter(lambda file=file: file.read(1 << 20), b""):
                words = block.split(b" ")
                for index in range(0, len(words), 1000):
                    words[index] = b"%x" % rng.randrange(1 << 40)
                changed = b" ".join(words)
                sent += len(changed)
                yield changed
                if sent >= stream_mb * 1_000_000:
                    return


def bench_memory(names: list[str], stream_mb: int, vocab_size: int) -> None:
    paths = []
    for name in names:
        path = name
        if name == "stdlib":
            path = str(Path(tempfile.mkdtemp()) / "stdlib")
            Path(path).write_text(read(name), encoding="utf-8")
        paths.append(path)
    if "--child" not in sys.argv:  # in a process of its own, where nothing else has raised the peak
        command = [sys.executable, __file__, "memory", *paths, "--stream-mb", str(stream_mb), "--child"]
        subprocess.run([*command, "--vocab-size", str(vocab_size)], check=True)
        return
    tokenizer = BasicTokenizer(vocab_size + 1)
    tokenizer.train("load the kernels " * 80_000)
    start = _peak_mb()
    tokenizer.train_from_iterator(_blocks(paths, stream_mb))
    facts = tokenizer.trained_on
    assert facts is not None
    print(
        f"train on {facts['bytes'] / 1e6:.0f} MB, {facts['distinct_pretokens']:,} different pretokens: "
        f"peak {_peak_mb() - start:.0f} MB over start ({start:.0f} MB)"
    )


def bench_start(rounds: int) -> None:
    code = (
        "from atomiclm.tokenizer import BasicTokenizer, fast\n"
        "fast.COMPILING_FROM_BYTES = fast.COMPILED_FROM_BYTES; t = BasicTokenizer(300)\n"
        "t.train('warm or cold ' * 100_000); t.encode('warm or cold ' * 100_000); t.encode_array(b'x')"
    )

    def child(cache: str, code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"ATOMICLM_CACHE": cache}, stderr=-3)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with tempfile.TemporaryDirectory() as cache:
        print(f"cold, everything compiled: {child(cache, code):.2f} CPU s")
        warm = [child(cache, code) for _ in range(rounds)]
        python = [child(cache, "import numpy") for _ in range(rounds)]
        print(
            f"warm: {statistics.median(warm):.2f} CPU s (of them Python and numpy {statistics.median(python):.2f}); "
            f"{min(warm):.2f} to {max(warm):.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "encode", "worst", "memory", "start"))
    parser.add_argument("files", nargs="*", default=["stdlib"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--stream-mb", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    fast.COMPILING_FROM_BYTES = fast.COMPILED_FROM_BYTES  # kernels are measured, also where none are compiled yet
    if given.what == "train":
        bench_train(given.files, given.rounds, given.vocab_size)
    elif given.what == "encode":
        bench_encode(given.files, given.rounds, given.vocab_size)
    elif given.what == "worst":
        bench_worst(given.rounds)
    elif given.what == "memory":
        bench_memory(given.files, given.stream_mb, given.vocab_size)
    else:
        bench_start(given.rounds)


if __name__ == "__main__":
    main()
