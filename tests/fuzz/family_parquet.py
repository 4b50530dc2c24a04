"""Parquet: the bytes of sound files changed at random, headers above all; and tables that are not what one expects."""

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
from fuzz.family import Family, Make, Read, anything, written
from fuzz.family_text import ROWS, documents
from fuzz.mutate import mutated_bytes

COMPRESSIONS = ("none", "snappy", "gzip", "zstd", "lz4", "brotli")


def parquet(table: pyarrow.Table, **options: object) -> bytes:
    buffer = BytesIO()
    pyarrow.parquet.write_table(table, buffer, **options)
    return buffer.getvalue()


class ParquetFiles(Family):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        texts = [row["text"] for row in ROWS]
        table = pyarrow.table({"n": range(len(texts)), "text": texts, "more": [[1, 2]] * len(texts)})
        large = table.set_column(1, "text", table["text"].cast(pyarrow.large_string()))
        indexed = table.set_column(1, "text", table["text"].dictionary_encode())
        self.sound = [
            parquet(each, compression=compression, row_group_size=17, use_dictionary=dictionary, data_page_version=page)
            for each in (table, large, indexed)
            for compression in COMPRESSIONS
            for dictionary, page in ((True, "1.0"), (False, "2.0"))
        ]
        self.sound.append(parquet(table, column_encoding={"text": "DELTA_BYTE_ARRAY"}, use_dictionary=False))
        for data in self.sound[:2]:
            (folder / "a.parquet").write_bytes(data)
            documents(folder / "a.parquet")

    def shaped(self) -> Iterator[tuple[str, Make]]:
        yield from anything("a.parquet", documents)
        columns = {
            "numbers": [1, 2], "lists": [["a"], []], "nulls": [None, "a"], "nothing": pyarrow.nulls(3),
            "bytes": [b"\xff"], "structs": [{"text": "a"}], "booleans": [True],
            "none": pyarrow.array([], pyarrow.string()), "control": ["\x1b[2J"],
            "fixed": pyarrow.array([b"ab"], pyarrow.binary(2)),
        }  # fmt: skip
        for name, column in columns.items():
            yield f"column of {name}", written("a.parquet", parquet(pyarrow.table({"text": column})), documents)
        invalid = pyarrow.array([b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
        yield "strings that are not utf-8", written("a.parquet", parquet(pyarrow.table({"text": invalid})), documents)
        names = pyarrow.table({f"\x1b[2J{n}": [n] for n in range(1000)})
        yield "columns of control characters", written("a.parquet", parquet(names), documents)
        twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
        yield "column twice", written("a.parquet", parquet(twice), documents)
        word = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200, pyarrow.int32()), ["a" * (1 << 20)])
        yield "bomb of one word", written("a.parquet", parquet(pyarrow.table({"text": word})), documents)
        text = pyarrow.table({"text": ["a" * (100 << 20)]})
        yield "bomb of one row", written("a.parquet", parquet(text, compression="zstd"), documents)
        rows = pyarrow.table({"text": pyarrow.array([""] * 300_000)})
        yield "many empty rows", written("a.parquet", parquet(rows), documents)
        for number, data in enumerate(self.sound):
            for place in (
                4,
                len(data) // 4,
                len(data) // 2,
                len(data) - 9,
                len(data) - 8,
                len(data) - 4,
                len(data) - 1,
            ):
                yield f"cut {number} at {place}", written("a.parquet", data[:place], documents)

    def drawn(self, rng: random.Random, folder: Path) -> Read:
        data = rng.choice(self.sound)
        footer = int.from_bytes(data[-8:-4], "little") + 8
        # Half of the changes in the footer, which says where everything is; the rest in pages and their headers.
        places = (len(data) - footer, len(data)) if rng.random() < 0.5 else (4, len(data) - footer)
        return written("a.parquet", mutated_bytes(rng, data, places), documents)(folder)
