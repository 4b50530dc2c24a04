"""Text to ids and back: byte-pair encoding (BPE), explained simply and made fast.

Text is bytes, so 256 ids say everything, one byte at a time. To say more with one id, find the two neighbours that
occur together most often, and give the pair an id of its own. Then do it again:

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

That list of merges is the whole tokenizer. Encoding applies it in the order learned; decoding looks up the bytes. Text
is first cut into pretokens (roughly, words with the blank before them) that no merge may cross:

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

Read on in this order: `train_basic` is the algorithm as one would explain it, `train_heap` the same merges without
reading the corpus twice, `encode` merges applied to one pretoken. `patterns` and `unicode_table` cut text into
pretokens, `pretokenize` does so to a stream. `base` says what every tokenizer promises, `tokenizer` puts all of it
together, `tokenizer_state` is what was learned and its file. `fast/` is counting, training and encoding once more,
compiled; the plain files are its oracle and its substitute.
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
