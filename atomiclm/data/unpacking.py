"""Decompressing, a little at a time and not without end: ten kilobytes of gzip can stand for ten megabytes, of
Zstandard for hundreds, and a file of them for as much as there is memory or patience.
"""

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from atomiclm.data.source import SourceError

FREE_BYTES = 1 << 23
"""Any file may unpack to 8 MiB."""

MAX_RATIO = 100
"""A larger one to this many times its own size. Prose packs to a third, the dullest logs to a fiftieth."""

FEED_BYTES = 1 << 10
"""Compressed bytes given to a decoder at a time: a Zstandard block of 4 bytes may stand for 128 KiB, so at most 32 MiB
come out at once. It also bounds what is copied where a file is made of many small members."""


def unpacked(path: Path, compression: Literal["gz", "zst"], chunk_bytes: int) -> Iterator[bytes]:
    """The bytes of a compressed file in pieces of about `chunk_bytes` or more.

    A file may hold several members or frames, one after the other; gzip's may be padded with zeros.

    Raises SourceError when it is damaged or cut off, or goes on beyond `FREE_BYTES` and `MAX_RATIO`; OSError when it
    cannot be read.
    """
    limit = unpacked_limit(path)
    waiting: list[bytes] = []
    size = done = 0
    for piece in _pieces(path, compression):
        waiting.append(piece)
        size += len(piece)
        if done + size > limit:
            raise unpacks_too_far(path, limit)
        if size >= chunk_bytes:
            yield b"".join(waiting)
            done, size = done + size, 0
            waiting.clear()
    yield b"".join(waiting)


def unpacked_limit(path: Path) -> int:
    """Bytes that may come out of a packed file."""
    return max(FREE_BYTES, MAX_RATIO * path.stat().st_size)


def unpacks_too_far(path: Path, limit: int) -> SourceError:
    """The error for more."""
    return SourceError(
        "path",
        f"{path} unpacks to more than {limit:,} bytes, {MAX_RATIO} times its size or more, as no text by people does; "
        "if it is yours, unpack it and name the result",
    )


def _pieces(path: Path, compression: Literal["gz", "zst"]) -> Iterator[bytes]:
    begin, damage = _gzip() if compression == "gz" else _zstandard()
    with path.open("rb") as file:
        decoder = begin()
        begun = fed = False  # whether a member has been read; whether the current one has been given any bytes
        while chunk := file.read(FEED_BYTES):
            while chunk:
                if begun and not fed and compression == "gz":
                    chunk = chunk.lstrip(b"\0")
                    if not chunk:
                        break
                try:
                    out = decoder.decompress(chunk)
                except damage as error:
                    raise SourceError(
                        "path", f"{path} is damaged or cut off ({error}); fetch or compress it again"
                    ) from error
                if out:
                    yield out
                begun = fed = True
                chunk = b""
                if decoder.eof:
                    chunk, fed = decoder.unused_data, False
                    decoder = begin()
        # The libraries' own stream readers may end in silence where a file is cut off, so the end is looked at here.
        if fed:
            raise SourceError("path", f"{path} is damaged or cut off (it ends within); fetch or compress it again")


def _gzip() -> tuple[Callable[[], Any], type[Exception]]:
    return partial(zlib.decompressobj, wbits=16 + zlib.MAX_WBITS), zlib.error


def _zstandard() -> tuple[Callable[[], Any], type[Exception]]:
    import zstandard  # only who reads .zst pays for it

    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
