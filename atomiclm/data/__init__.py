"""Text on disk to batches of token ids: sources, split, shards, sampling order. NumPy only, no torch.

Names are loaded on first use: a configuration that names a source is checked without importing NumPy.
"""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.data.batches import Batch, Dataset
    from atomiclm.data.best_fit import BestFit
    from atomiclm.data.copying import Copy
    from atomiclm.data.corpus import corpus_sha256, prepare
    from atomiclm.data.dev_split import DevSplit
    from atomiclm.data.loading import create_dataloaders, training_batches
    from atomiclm.data.markov import Markov
    from atomiclm.data.mixing import MixedDataset
    from atomiclm.data.mixture import Mixture
    from atomiclm.data.order import Order, RandomWindows, RepeatedWindows, ShuffledWindows, WindowOrder
    from atomiclm.data.packing import PackedDataset
    from atomiclm.data.passkey import Passkey
    from atomiclm.data.prepared import CorpusPart, PreparedCorpus
    from atomiclm.data.progress import Progress
    from atomiclm.data.protocols import END_OF_TEXT, TrainableTokenizer
    from atomiclm.data.python_library import PythonStandardLibrary
    from atomiclm.data.recall import AssociativeRecall
    from atomiclm.data.shakespeare import Shakespeare
    from atomiclm.data.shards import TokenShard
    from atomiclm.data.source import CorpusSource, Document, SourceError, TextSource
    from atomiclm.data.text_files import TextFiles
    from atomiclm.data.validation import ValidationWindows, answer_batches, validation_batches, validation_windows
    from atomiclm.data.windows import TextDataset

_MODULE_OF = {
    "END_OF_TEXT": "protocols",
    "AssociativeRecall": "recall",
    "Batch": "batches",
    "BestFit": "best_fit",
    "Copy": "copying",
    "CorpusPart": "prepared",
    "CorpusSource": "source",
    "Dataset": "batches",
    "DevSplit": "dev_split",
    "Document": "source",
    "Markov": "markov",
    "MixedDataset": "mixing",
    "Mixture": "mixture",
    "Order": "order",
    "PackedDataset": "packing",
    "Passkey": "passkey",
    "PreparedCorpus": "prepared",
    "Progress": "progress",
    "PythonStandardLibrary": "python_library",
    "RandomWindows": "order",
    "RepeatedWindows": "order",
    "Shakespeare": "shakespeare",
    "ShuffledWindows": "order",
    "SourceError": "source",
    "TextDataset": "windows",
    "TextFiles": "text_files",
    "TextSource": "source",
    "TokenShard": "shards",
    "TrainableTokenizer": "protocols",
    "ValidationWindows": "validation",
    "WindowOrder": "order",
    "answer_batches": "validation",
    "corpus_sha256": "corpus",
    "create_dataloaders": "loading",
    "prepare": "corpus",
    "training_batches": "loading",
    "validation_batches": "validation",
    "validation_windows": "validation",
}

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
    "corpus_sha256",
    "create_dataloaders",
    "prepare",
    "training_batches",
    "validation_batches",
    "validation_windows",
]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
