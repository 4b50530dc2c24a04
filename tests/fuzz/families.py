"""The families by name, each loaded only where it is run: two of them need torch."""

from importlib import import_module
from pathlib import Path

from fuzz.family import Family

FAMILIES = {
    "tokenizers": "family_tokenizer:Tokenizers",
    "texts": "family_text:Texts",
    "parquet": "family_parquet:ParquetFiles",
    "huggingface": "family_huggingface:HuggingFaceFolders",
    "checkpoints": "family_checkpoint:Checkpoints",
}


def family(name: str, folder: Path) -> Family:
    """The family of that name, its valid files written to `folder`."""
    module, _, kind = FAMILIES[name].partition(":")
    made: Family = getattr(import_module(f"fuzz.{module}"), kind)(folder)
    return made
