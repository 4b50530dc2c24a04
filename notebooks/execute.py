"""Run notebooks and store what they print and draw: `uv run python notebooks/execute.py [NAME.ipynb ...]`."""

import base64
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
PNG = b"\x89PNG\r\n\x1a\n"


def execute(path: Path, folder: Path) -> Any:
    """The notebook with new outputs, run in `folder`. CellExecutionError: a cell raised."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=where, record_timing=False, coalesce_streams=True).execute()
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if image := output.get("data", {}).get("image/png"):
            output["data"]["image/png"] = base64.b64encode(smaller(base64.b64decode(image))).decode()
    return notebook


def smaller(image: bytes) -> bytes:
    """The same PNG compressed as far as it goes: vl-convert's are four times as large as they need to be."""
    kept, pixels, at = [], b"", len(PNG)
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, data = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels += data
        else:
            kept.append((kind, data))
        at += length + 12
    chunks = [*kept[:-1], (b"IDAT", zlib.compress(zlib.decompress(pixels), 9)), kept[-1]]
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(path, Path(folder)), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
