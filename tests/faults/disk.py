"""A disk of a few megabytes that can be filled and freed, and damage to files as disks do it."""

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMount(Exception):
    """This machine gives no small disk: no root, no tmpfs."""


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """Mount a tmpfs of so many megabytes at `place`.

    Raises:
        CannotMount: with the reason.
    """
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CannotMount(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise CannotMount(error.stderr.strip()) from error
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, free_bytes: int) -> Path:
    """Fill the disk up to the last `free_bytes`; return the file to remove for its space."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        file.truncate(max(0, os.fstat(file.fileno()).st_size - free_bytes))
    return path


def truncate(path: Path, size: int) -> None:
    """Cut a file off after `size` bytes."""
    os.truncate(path, size)


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file around."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def damage(path: Path, chance: random.Random) -> str:
    """Truncate a file or flip a bit of it, at random; return what was done."""
    size = path.stat().st_size
    if chance.random() < 0.5:
        cut = chance.randrange(size)
        truncate(path, cut)
        return f"{path.name} cut to {cut} of {size} bytes"
    bit = chance.randrange(8 * size)
    flip(path, bit)
    return f"bit {bit} of {path.name} flipped"
