"""Text to ids and back: byte-pair encoding (BPE), explained simply and made fast.

The idea in one example. Text is bytes, so 256 ids say everything, one byte at a time. To say more with one id, find
the two neighbours that occur together most often, and give the pair an id of its own. Then do it again:

>>> from atomiclm.tokenizer import BasicTokenizer, get_stats, merge
>>> ids = list(b"hug hug hugs")
>>> stats = get_stats(ids)
>>> stats[ord("h"), ord("u")], stats[ord("u"), ord("g")]                       # a tie: the smaller ids win
(3, 3)
>>> ids = merge(ids, (ord("h"), ord("u")), 256)
>>> ids                                                                        # "hu" is 256 now
[256, 103, 32, 256, 103, 32, 256, 103, 115]
>>> merge(ids, (256, ord("g")), 257)                                           # the next most frequent pair makes "hug"
[257, 32, 257, 32, 257, 115]

That list of merges is the whole tokenizer. Encoding new text applies it in the order learned; decoding looks up the
bytes. In practice text is first cut into pretokens (roughly, words with the blank before them) that no merge may
cross:

>>> tokenizer = BasicTokenizer(vocab_size=256 + 3 + 1)                         # bytes, three merges, <|endoftext|>
>>> tokenizer.train("hug hug hugs")
>>> tokenizer.merges                                                           # "hu", "hug", " hug"
[(104, 117), (256, 103), (32, 257)]
>>> tokenizer.encode("hugs hug")
[257, 115, 258]
>>> tokenizer.decode([257, 115, 258])
'hugs hug'
>>> tokenizer.encode("hug<|endoftext|>", allowed_special="all")
[257, 259]

Read on in this order:

| file | its one idea |
|---|---|
| `train_basic` | count neighbours, merge a pair: the algorithm, as one would explain it, and its rule for ties |
| `train_heap` | the same merges, without ever reading the corpus twice |
| `encode` | merges applied to one pretoken, and remembered |
| `patterns`, `unicode_table` | a regular expression cuts text into pretokens; what it takes for a letter is pinned |
| `pretokenize` | a stream, cut anywhere and UTF-8 or not, becomes counted pretokens; special tokens stand for no text |
| `base`, `tokenizer` | what every tokenizer promises; `BasicTokenizer`: all of it put together |
| `tokenizer_state` | what was learned, as a value that has checked itself; one JSON file of it |
| `report` | what was learned, in figures |
| `fast/` | counting, training and encoding once more, compiled; the plain files are its oracle and its substitute |
"""

from atomiclm.tokenizer.base import IncrementalDecoder, Tokenizer
from atomiclm.tokenizer.constants import END_OF_TEXT, FORMAT_VERSION, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.patterns import PATTERNS
from atomiclm.tokenizer.tokenizer import BasicTokenizer
from atomiclm.tokenizer.train_basic import get_stats, merge

__all__ = [
    "END_OF_TEXT",
    "FORMAT_VERSION",
    "PATTERNS",
    "TOKENIZER_BASE_LENGTH",
    "BasicTokenizer",
    "IncrementalDecoder",
    "Tokenizer",
    "get_stats",
    "merge",
]
