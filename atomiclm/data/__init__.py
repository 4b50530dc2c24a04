"""Text on disk to batches of token ids: sources, split, shards, sampling order. NumPy only, no torch."""

from atomiclm.data.batches import TextDataset, ValidationWindows, create_dataloaders, validation_windows
from atomiclm.data.cache import default_cache_dir
from atomiclm.data.corpus import PreparedCorpus, prepare
from atomiclm.data.order import RandomWindows, RepeatedWindows, ShuffledWindows, WindowOrder
from atomiclm.data.progress import Progress
from atomiclm.data.protocols import END_OF_TEXT, TrainableTokenizer
from atomiclm.data.python_library import PythonStandardLibrary
from atomiclm.data.shakespeare import Shakespeare
from atomiclm.data.shards import TokenShard
from atomiclm.data.source import Document, SourceError, TextSource
from atomiclm.data.text_files import TextFiles

__all__ = [
    "END_OF_TEXT",
    "Document",
    "PreparedCorpus",
    "Progress",
    "PythonStandardLibrary",
    "RandomWindows",
    "RepeatedWindows",
    "Shakespeare",
    "ShuffledWindows",
    "SourceError",
    "TextDataset",
    "TextFiles",
    "TextSource",
    "TokenShard",
    "TrainableTokenizer",
    "ValidationWindows",
    "WindowOrder",
    "create_dataloaders",
    "default_cache_dir",
    "prepare",
    "validation_windows",
]
