"""Text on disk to batches of token ids: sources, split, shards, sampling order. NumPy only, no torch."""

from atomiclm.data.builtin_corpora import PythonStandardLibrary, Shakespeare
from atomiclm.data.cache import Progress
from atomiclm.data.huggingface import HuggingFace
from atomiclm.data.mixture import DevSplit, Mixture
from atomiclm.data.order import (
    Batch,
    Dataset,
    MixedDataset,
    Order,
    RandomWindows,
    RepeatedWindows,
    ShuffledWindows,
    TextDataset,
    training_batches,
)
from atomiclm.data.packing import BestFit, PackedDataset
from atomiclm.data.prepare import END_OF_TEXT, check_separator, corpus_sha256, prepare
from atomiclm.data.shards import CorpusPart, PreparedCorpus, TokenShard
from atomiclm.data.source import Document, SourceError, TextSource
from atomiclm.data.synthetic import AssociativeRecall, Copy, Markov, Passkey
from atomiclm.data.text_files import TextFiles
from atomiclm.data.validation import ValidationWindows, answer_batches

__all__ = [
    "END_OF_TEXT", "AssociativeRecall", "Batch", "BestFit", "Copy", "CorpusPart", "Dataset", "DevSplit", "Document",
    "HuggingFace", "Markov", "MixedDataset", "Mixture", "Order", "PackedDataset", "Passkey", "PreparedCorpus",
    "Progress", "PythonStandardLibrary", "RandomWindows", "RepeatedWindows", "Shakespeare", "ShuffledWindows",
    "SourceError", "TextDataset", "TextFiles", "TextSource", "TokenShard", "ValidationWindows",
    "answer_batches", "check_separator", "corpus_sha256", "prepare", "training_batches",
]  # fmt: skip
