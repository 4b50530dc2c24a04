"""The numbers and names that the files of this package agree on."""

TOKENIZER_BASE_LENGTH = 256
"""One id for each value of a byte, so no text is ever "unknown"."""

FORMAT_VERSION = 2
"""Version of the JSON file. It goes up when a file written today would be read with another meaning tomorrow."""

END_OF_TEXT = "<|endoftext|>"
"""The special token that stands between documents (the spelling of GPT-2; Radford et al., 2019)."""

BLOCK_BYTES = 1 << 18
"""Of a stream are split at a time; it bounds memory and changes no result."""

CACHE_ENTRIES = 1 << 16
CACHE_PRETOKEN_BYTES = 128
"""So many pretokens have their ids remembered while encoding (about 16 MB), and none that is longer."""

MAX_PATTERN_CHARACTERS = 4096
MAX_PATTERN_REPEATS = 10_000
"""Of a split pattern, and the product of its counts {n}: `(?:a{9999}){9999}` would fill the memory when compiled."""

MAX_FILE_BYTES = 1 << 26
"""A tokenizer file larger than 64 MiB is refused (a vocabulary of 200,000 takes about 6 MB)."""

MAX_VOCABULARY_BYTES = 1 << 28
"""Of all tokens together: a file of forty lines can double a token forty times."""

MAX_VOCAB_SIZE = 1 << 21
"""So that the kernels have a pair of tokens and its rank in 64 bits."""

MAX_SPECIAL_TOKENS = 1 << 14
MAX_SPECIAL_CHARACTERS = 1 << 20
"""More and longer ones are refused (the vocabularies in use have up to 7,000): they become one regular expression."""

MAX_COUNT = (1 << 63) - 1

COMPILED_FROM_BYTES = 1 << 20
"""Less text than this is sooner done with in plain Python than numba is imported and compiled kernels are loaded."""

COMPILING_FROM_BYTES = 24 << 20
"""Less text than this is sooner done with in plain Python than kernels that no process here has compiled yet.

Plain code needs 0.55 CPU seconds a MB to train and encode, compiling 13, once a machine: they meet at 24 MB.
"""
