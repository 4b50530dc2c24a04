"""Files that are nothing in particular: handed to every reader of a single file, whatever it expects."""

import os
import pickle
import socket
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

CANARY = "canary"


class Canary:
    """What runs when it is unpickled leaves a file in the working folder."""

    def __reduce__(self):
        return Path.touch, (Path(CANARY),)


def _zip(name: str, data: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "nul": b"\0",
    "nuls": bytes(1 << 20),
    "ones": b"\xff" * 4096,
    "line feeds": b"\n" * (1 << 20),
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "utf-32": '{"a": 1}'.encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "not utf-8": b'{"a": "\xff\xfe"}',
    "surrogate": b'{"a": "\\ud800"}',
    "surrogate key": b'{"\\ud800": 1}',
    "null": b"null",
    "true": b"true",
    "number": b"3",
    "negative zero": b"-0",
    "infinite": b"1e999",
    "nan": b"NaN",
    "minus infinity": b"-Infinity",
    "text": b'"text"',
    "list": b"[]",
    "object": b"{}",
    "object of nothing": b'{"": null}',
    "deep list": b"[" * 200_000,
    "deep closed list": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "digits": b"9" * 1_000_000,
    "digits within": b'{"a": ' + b"1" * 1_000_000 + b"}",
    "exponent": b'{"a": 1e99999999999999999999}',
    "key twice": b'{"a": 1, "a": 2}',
    "many keys": b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b"}",
    "many lists": b"[" + b"[]," * 200_000 + b"[]]",
    "long key": b'{"' + b"k" * 1_000_000 + b'": 1}',
    "escapes": b'{"\\u001b]0;gotcha\\u0007": "\\u001b[2J"}',
    "cut object": b'{"a": [1, 2',
    "trailing": b"{} {}",
    "yaml": b"!!python/object/apply:os.system ['touch canary']",
    "yaml bomb": b"a: &a [x,x,x]\nb: &b [*a,*a,*a]\n",
    "python": b"__import__('os').system('touch canary')",
    "shell": b"#!/bin/sh\ntouch canary\n",
    "zip": _zip("../../canary", b"x"),
    "torch zip": _zip("archive/data.pkl", pickle.dumps(Canary(), 2)),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(128)
    + pickle.dumps(Canary()),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(100),
    "gzip head": b"\x1f\x8b\x08\x00",
    "zstd head": b"\x28\xb5\x2f\xfd",
    "parquet marks": b"PAR1PAR1",
    "parquet huge footer": b"PAR1" + bytes(20) + b"\xff\xff\xff\x7fPAR1",
    "header of 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "header of 2^40": (2**40).to_bytes(8, "little") + b"{}",
    "header of lists": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    **{f"pickle {protocol}": pickle.dumps(Canary(), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


def _socket(path: Path) -> None:
    home = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(home)


def _loop(path: Path) -> None:
    other = path.with_name("other")
    other.symlink_to(path)
    path.symlink_to(other)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


PLACES: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "missing": lambda path: None,
    "dangling link": lambda path: path.symlink_to(path.with_name("nowhere")),
    "links in a circle": _loop,
    "link to itself": lambda path: path.symlink_to(path),
    "link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to(os.devnull),
    "link to a pipe": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe"))[1],
    "link to a folder": lambda path: path.symlink_to(path.parent),
    "ten gigabytes of nothing": _sparse,
}
"""What may stand where a file is expected, by how it is made."""


def everything() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """(name, how to put it at a path) of all of the above."""
    for name, data in CONTENTS.items():
        yield name, lambda path, data=data: path.write_bytes(data)
    yield from PLACES.items()
