"""The bytes of a file, decompressed, and the text they stand for.

Text is decoded from bytes, so line ends stay as they are (CRLF too). A UTF-8 byte order mark at the start of a file
is a signature, not text, and is dropped; U+FEFF anywhere else is text. Anything that is not UTF-8 is refused: to
replace or skip bytes would make bits per byte a figure about another text. So is text full of NULs, which is most often
UTF-16 taken for UTF-8.
"""

import codecs
import contextlib
import stat
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from atomiclm.data.source import NotUtf8Error, SourceError

Compression = Literal["gz", "zst"]

CHUNK_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 1 << 30  # of a plain text file: it is one document, and takes two to six times its size in memory
MAX_UNPACKED_BYTES = 1 << 27  # of a compressed one, whose size does not show what is in it
MAX_NUL_SHARE = 0.01  # of the characters. English in UTF-16 has a half, other alphabets at least one for each space

# What a compressed file may unpack to: ten kilobytes of gzip can stand for ten megabytes, of Zstandard for hundreds.
FREE_BYTES = 1 << 23  # any file
MAX_RATIO = 100  # times its size, a larger one. Prose packs to a third, the dullest logs to a fiftieth
FEED_BYTES = 1 << 10  # given to a decoder at a time: a Zstandard block of 4 bytes may stand for 128 KiB

WIDE_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def file_chunks(path: Path, compression: Compression | None) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in pieces. Raises SourceError when it cannot be read or is cut off."""
    try:
        check_plain(path)
        if compression is not None:
            yield from _unpacked(path, compression)
            return
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError("path", f"{path} cannot be read: {error.strerror or error}") from error


def check_plain(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError("path", f"{path} is not a file but a pipe, a socket, a device or a folder")


def whole_file(path: Path, compression: Compression | None) -> bytes:
    """All of a text file, if it is one that fits in memory several times."""
    limit = MAX_UNPACKED_BYTES if compression else MAX_DOCUMENT_BYTES
    too_long = SourceError(
        "path",
        f"{path} holds more than {limit:,} bytes of text, the most that one document may have"
        f"{' in a compressed file; unpack it' if compression else '; cut it into several files'}",
    )
    if compression is None and path.exists() and path.stat().st_size > limit:
        raise too_long
    content = bytearray()
    for chunk in file_chunks(path, compression):
        content += chunk
        if len(content) > limit:  # a compressed file's size does not show it, and that of a file in /proc is 0
            raise too_long
    return bytes(content)


def decode(raw: bytes, path: Path, *, final: bool = True, start: int = 0) -> str:
    """`raw` as UTF-8 without its byte order mark; `start` is where it begins in the file. Raises NotUtf8Error.

    final: whether `raw` is all there is; if not, a character cut off at its end is no fault.
    """
    if start == 0 and (wide := next((name for mark, name in WIDE_MARKS.items() if raw.startswith(mark)), None)):
        raise NotUtf8Error(
            "path",
            f"{path} is not UTF-8: it begins with the byte order mark of {wide}; convert it, e.g. {_conversion(wide)}",
        )
    mark = codecs.BOM_UTF8 if start == 0 and raw.startswith(codecs.BOM_UTF8) else b""
    try:
        text = codecs.getincrementaldecoder("utf-8")("strict").decode(raw[len(mark) :], final)
    except UnicodeDecodeError as error:
        offset = start + len(mark) + error.start
        raise NotUtf8Error(
            "path",
            f"{path} is not UTF-8: byte 0x{raw[offset - start]:02x} at byte offset {offset}; convert it, "
            f"e.g. {_conversion('ISO-8859-1')}, or leave it out",
        ) from error
    if full_of_nuls(text):
        nuls, wide = text.count("\0"), _unmarked_encoding(raw)
        remedy = f"it seems to be {wide}: {_conversion(wide)}" if wide else "remove them, e.g. tr -d '\\000' < IN > OUT"
        raise NotUtf8Error(
            "path",
            f"{path} is not text: from byte offset {start} on, {nuls:,} of {len(text):,} characters are NUL; {remedy}",
        )
    return text


def _conversion(encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 IN > OUT"


def full_of_nuls(text: str) -> bool:
    return text.count("\0") > MAX_NUL_SHARE * len(text)


def _unmarked_encoding(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, where the first bytes are that."""
    head = raw[: 1 << 16]
    # Of Latin letters in UTF-16 every second byte is NUL, the second of a pair where the lower byte comes first.
    utf_16 = "UTF-16LE" if head[1::2].count(0) > head[::2].count(0) else "UTF-16BE"
    for encoding in ("UTF-32LE", "UTF-32BE", utf_16):
        with contextlib.suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(encoding)().decode(head)  # the last character may be cut off
            if text and not full_of_nuls(text):
                return encoding
    return None


def _unpacked(path: Path, compression: Compression) -> Iterator[bytes]:
    """The bytes of a compressed file in pieces of about `CHUNK_BYTES` or more.

    A file may hold several members or frames, one after the other; gzip's may be padded with zeros.

    Raises SourceError when it is damaged or cut off, or goes on beyond `FREE_BYTES` and `MAX_RATIO`; OSError when it
    cannot be read.
    """
    limit = unpacked_limit(path)
    waiting, total = bytearray(), 0
    for piece in _decompressed(path, compression):
        waiting += piece
        total += len(piece)
        if total > limit:
            raise unpacks_too_far(path, limit)
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def unpacked_limit(path: Path) -> int:
    return max(FREE_BYTES, MAX_RATIO * path.stat().st_size)


def unpacks_too_far(path: Path, limit: int) -> SourceError:
    return SourceError(
        "path",
        f"{path} unpacks to more than {limit:,} bytes, {MAX_RATIO} times its size or more, as no text by people does; "
        "if it is yours, unpack it and name the result",
    )


def _decompressed(path: Path, compression: Compression) -> Iterator[bytes]:
    begin: Callable[[], Any] = partial(zlib.decompressobj, wbits=16 + zlib.MAX_WBITS)
    damage: type[Exception] = zlib.error
    if compression == "zst":
        import zstandard  # only who reads .zst pays for it

        begin, damage = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
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
        # The libraries' own stream readers may end in silence where a file is cut off, so the end is checked here.
        if fed:
            raise SourceError("path", f"{path} is damaged or cut off (it ends within); fetch or compress it again")
