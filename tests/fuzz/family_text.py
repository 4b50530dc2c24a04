"""Text sources: plain text, JSON lines, both compressed, Parquet; folders and globs."""

import gzip
import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import zstandard
from fuzz.family import Family, Make, Read, anything, written
from fuzz.hostile import CONTENTS
from fuzz.mutate import VALUES, mutated_bytes, spelled

from atomiclm.data import TextFiles, file_formats
from atomiclm.data.source import document_bytes

# The law is 1 GiB of memory; text takes a multiple of its size in it.
file_formats.MAX_DOCUMENT_BYTES = 1 << 27
pyarrow.Codec("zstd")  # loaded before the audit begins, as the codecs below

for codec in ("utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"):
    "".encode(codec)  # loads it: Python executes the codec's module, which the audit would take for code of the input


ROWS = [{"text": f"row {n}: the quick brown fox " * (n % 5 + 1), "n": n, "more": {"a": [n]}} for n in range(40)]
PLAIN = "".join(row["text"] + "\n" for row in ROWS).encode() + "Zwölf Boxkämpfer\U0001f600\r\n".encode()
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
SECRET = "what lies beside the folder"


def documents(path: Path | str) -> None:
    """Both ways a source is read: the quick look, whose findings are an error like any other, and the whole of it."""
    source = TextFiles(str(path))
    faults = source.faults()
    count = 0
    for document in source.documents():
        count += len(document_bytes(document))
        assert document.text != SECRET, "a file that is not in the folder was read"
    assert not faults, faults
    assert count


def bomb_gz(piece: bytes, times: int, head: bytes = b"", tail: bytes = b"") -> Callable[[Path], None]:
    """A writer of `piece` many times over, compressed once and repeated as members, so that making it is quick."""

    def write(path: Path) -> None:
        member = gzip.compress(piece * 64, 9)
        with path.open("wb") as file:
            file.write(gzip.compress(head))
            for _ in range(times // 64):
                file.write(member)
            file.write(gzip.compress(tail))

    return write


def bomb_zst(path: Path) -> None:
    """One frame whose blocks are one byte 128 KiB times over: 4 bytes each, 33 to a megabyte of text, 16 GiB in all."""
    block = struct.pack("<I", (128 << 10) << 3 | 1 << 1)[:3] + b"a"  # RLE block, not the last
    with path.open("wb") as file:
        file.write(b"\x28\xb5\x2f\xfd" + bytes([0x00, 0x38]))  # no content size; a window of 128 KiB
        for _ in range(32):
            file.write(block * 4096)
        file.write(struct.pack("<I", 1)[:3])


class Texts(Family):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for suffix, pack in PACKERS.items():
            for inner, data in ((".txt", PLAIN), (".jsonl", JSONL)):
                path = folder / f"a{inner}{suffix}"
                path.write_bytes(pack(data))
                documents(path)

    def shaped(self) -> Iterator[tuple[str, Make]]:
        for name in ("a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.gz", "a.txt.zst", "a.jsonl.zst"):
            yield from anything(name, documents)
        for suffix, pack in list(PACKERS.items())[1:]:
            for name, data in CONTENTS.items():
                yield f"{suffix} of {name}", written(f"a.jsonl{suffix}", pack(data), documents)
        for number, value in enumerate(VALUES):
            for row in ({"text": value}, {"text": "x", "other": value}, {str(value): "text"}, value):
                line = json.dumps(row).encode()
                yield f"row {number} {type(row).__name__}", written("a.jsonl", JSONL + line, documents)
        yield from _bombs()
        yield from _folders()

    def drawn(self, rng: random.Random, folder: Path) -> Read:
        suffix = rng.choice(list(PACKERS))
        inner, data = rng.choice(((".txt", PLAIN), (".jsonl", JSONL), (".jsonl", JSONL)))
        path = folder / f"a{inner}{suffix}"
        before, after = rng.random() < 0.6, rng.random() < 0.5
        if inner == ".jsonl" and rng.random() < 0.4:
            rows = [*ROWS[: rng.randrange(6)], *(rng.choice(VALUES) for _ in range(2))]
            data = b"\n".join(spelled(rng, row if isinstance(row, dict) else {"text": row}) for row in rows)
        elif before or not suffix:
            data = mutated_bytes(rng, data)
        data = PACKERS[suffix](data)
        if suffix and (after or not before):
            data = mutated_bytes(rng, data)
        path.write_bytes(data)
        return lambda: documents(path)


def _bombs() -> Iterator[tuple[str, Make]]:
    def bomb(name: str, write: Callable[[Path], None]) -> tuple[str, Make]:
        def make(folder: Path) -> Read:
            write(folder / name)
            return lambda: documents(folder / name)

        return f"bomb {name}", make

    megabyte = 1 << 20
    yield bomb("one_word.txt.gz", bomb_gz(b"a" * megabyte, 10_240))
    yield bomb("one_line.jsonl.gz", bomb_gz(b"a" * megabyte, 10_240, b'{"text": "'))
    yield bomb("many_lists.jsonl.gz", bomb_gz(b"[]," * (megabyte // 3), 1024, b'{"text": ['))
    yield bomb("wide.txt.gz", bomb_gz("\U0001f600".encode() * (megabyte // 4), 10_240))
    yield bomb("a.txt.zst", bomb_zst)
    yield bomb("a.jsonl.zst", bomb_zst)
    yield bomb("frames.txt.zst", lambda path: path.write_bytes(zstandard.compress(b"") * 300_000))
    yield bomb("members.txt.gz", lambda path: path.write_bytes(gzip.compress(b"") * 100_000))
    yield bomb("name.txt.gz", lambda path: path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 3_000_000))
    window = b"\x28\xb5\x2f\xfd\x00" + bytes([31 - 10 << 3]) + b"\x01\x00\x00"
    yield bomb("window.txt.zst", lambda path: path.write_bytes(window))
    worst = b'{"a": [' + b"{}," * ((16 << 20) // 3 - 10) + b"{}]}"
    yield bomb("objects.jsonl", lambda path: path.write_bytes(worst))
    yield bomb("too_long.jsonl", lambda path: path.write_bytes(b" " * (20 << 20)))


def _folders() -> Iterator[tuple[str, Make]]:
    def folder_of(change: Callable[[Path], object], path: str = "texts") -> Make:
        def make(folder: Path) -> Read:
            inside = folder / "texts"
            inside.mkdir()
            (inside / "a.txt").write_text("sound")
            (folder / "secret.txt").write_text(SECRET)
            change(inside)
            return lambda: documents(folder / path)

        return make

    def deep(inside: Path) -> None:
        for _ in range(60):
            inside /= "d" * 50
            inside.mkdir()
        (inside / "a.txt").write_text("deep down")

    def mirrors(inside: Path) -> None:
        for name in "bcd":
            (inside / name).symlink_to(".")

    changes: dict[str, Callable[[Path], object]] = {
        "empty": lambda inside: (inside / "a.txt").unlink(),
        "no text": lambda inside: (inside / "a.txt").write_text(""),
        "mirrors": mirrors,
        "deep": deep,
        "link out": lambda inside: (inside / "b.txt").symlink_to("../secret.txt"),
        "absolute link out": lambda inside: (inside / "b.txt").symlink_to(inside.parent / "secret.txt"),
        "link to a file of the machine": lambda inside: (inside / "b.txt").symlink_to("/etc/hostname"),
        "folder link out": lambda inside: (inside / "b").symlink_to("/etc"),
        "fifo": lambda inside: os.mkfifo(inside / "b.txt"),
        "zeros": lambda inside: (inside / "b.txt").symlink_to("/dev/zero"),
        "bytes in a name": lambda inside: Path(os.fsdecode(bytes(inside) + b"/\xff\xfe.txt")).write_text("x"),
    }
    for name, change in changes.items():
        yield f"folder: {name}", folder_of(change)
        for pattern in ("texts/**/*.txt", "texts/*", "texts/**", "*/*/*/*"):
            yield f"glob {pattern}: {name}", folder_of(change, pattern)

    def vanishing(folder: Path, change: Callable[[Path], object]) -> Read:
        path = folder / "a.jsonl"
        path.write_bytes(JSONL * 2000)

        def read() -> None:
            rows = TextFiles(str(path)).documents()
            next(rows)
            change(path)
            for _ in rows:
                pass

        return read

    yield "cut while it is read", lambda folder: vanishing(folder, lambda path: os.truncate(path, 5000))
    yield "gone while it is read", lambda folder: vanishing(folder, Path.unlink)
    yield "written over while it is read", lambda folder: vanishing(folder, lambda p: p.write_bytes(b"\xff" * 10**7))
    for path in (
        "",
        "\x00",
        "a\x00b.txt",
        "x" * 5000,
        "[",
        "**",
        "~nobody/x",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
    ):
        yield f"path {path[:20]!r}", lambda folder, path=path: lambda: _named(path, folder)


def _named(path: str, folder: Path) -> None:
    """Read a path that is not in the folder, under a message that is said to be."""
    home = os.getcwd()
    os.chdir(folder)
    try:
        documents(path)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    finally:
        os.chdir(home)
