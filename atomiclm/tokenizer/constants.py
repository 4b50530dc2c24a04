"""The numbers and names that the files of this package agree on."""

TOKENIZER_BASE_LENGTH = 256
"""One id for each value of a byte, so no text is ever "unknown"."""

FORMAT_VERSION = 2
"""Version of the JSON file. It goes up when a file written today would be read with another meaning tomorrow."""

END_OF_TEXT = "<|endoftext|>"
"""The special token that stands between documents (the spelling of GPT-2; Radford et al., 2019)."""

BLOCK_BYTES = 1 << 18
"""A stream is split into pretokens about this many bytes at a time; it bounds memory and changes no result."""

CACHE_ENTRIES = 1 << 16
"""Pretokens whose ids are remembered while encoding (about 16 MB); the cache is emptied when it is full."""

CACHE_PRETOKEN_BYTES = 128
"""Longer pretokens are not remembered: they rarely come back, and without a limit the cache would have no size."""

MAX_PATTERN_CHARACTERS = 4096
"""A split pattern longer than this is refused (those in use are under 300)."""

MAX_PATTERN_REPEATS = 10_000
"""The counts {n} of a split pattern may multiply to this; `(?:a{9999}){9999}` would fill the memory when compiled."""

MAX_FILE_BYTES = 1 << 26
"""A tokenizer file larger than 64 MiB is refused (a vocabulary of 200,000 takes about 6 MB)."""

MAX_VOCABULARY_BYTES = 1 << 28
"""All tokens together may hold 256 MiB: a file of forty lines can double a token forty times, so there is an end."""

MAX_VOCAB_SIZE = 1 << 21
"""Ids are below two million, so that the kernels have a pair of tokens and its rank in 64 bits."""

MAX_SPECIAL_TOKENS = 1 << 14
"""More special tokens are refused (the vocabularies in use have up to 7,000): they become one regular expression."""

MAX_SPECIAL_CHARACTERS = 1 << 20
"""All special tokens together may have this many characters, for the same reason."""

MAX_COUNT = (1 << 63) - 1
"""Counts in a file fit in 64 bits."""

COMPILED_FROM_BYTES = 1 << 20
"""Less text than this is sooner done with in plain Python than numba is imported and compiled kernels are loaded."""

COMPILING_FROM_BYTES = 24 << 20
"""Less text than this is sooner done with in plain Python than kernels that no process here has compiled yet.

Plain code needs 0.55 CPU seconds a MB to train and encode, compiling 13, once a machine: they meet at 24 MB.
"""
