"""Text on disk to batches of token ids: sources, split, shards, sampling order. NumPy only, no torch."""

from atomiclm.data.batches import Batch, Dataset
from atomiclm.data.cache import Progress
from atomiclm.data.corpus import END_OF_TEXT, CorpusPart, PreparedCorpus, TrainableTokenizer, check_separator
from atomiclm.data.markov import Markov
from atomiclm.data.mixture import MixedDataset, Mixture, create_dataloaders, training_batches
from atomiclm.data.order import Order, RandomWindows, RepeatedWindows, ShuffledWindows, TextDataset, WindowOrder
from atomiclm.data.packing import BestFit, PackedDataset
from atomiclm.data.prepare import corpus_sha256, prepare
from atomiclm.data.python_library import PythonStandardLibrary
from atomiclm.data.shakespeare import Shakespeare
from atomiclm.data.shards import TokenShard
from atomiclm.data.source import CorpusSource, Document, SourceError, TextSource
from atomiclm.data.split import DevSplit
from atomiclm.data.synthetic import AssociativeRecall, Copy, Passkey
from atomiclm.data.text_files import TextFiles
from atomiclm.data.validation import ValidationWindows, answer_batches, validation_batches, validation_windows

__all__ = [
    "END_OF_TEXT",
    "AssociativeRecall",
    "Batch",
    "BestFit",
    "Copy",
    "CorpusPart",
    "CorpusSource",
    "Dataset",
    "DevSplit",
    "Document",
    "Markov",
    "MixedDataset",
    "Mixture",
    "Order",
    "PackedDataset",
    "Passkey",
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
    "answer_batches",
    "check_separator",
    "corpus_sha256",
    "create_dataloaders",
    "prepare",
    "training_batches",
    "validation_batches",
    "validation_windows",
]
