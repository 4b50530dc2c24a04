"""What a kernel needs to know of an encoder: one block of int64, so that a call has few arguments.

Plain Python: the driver (`encode_compiled.py`) fills the block in, the kernels read it.
"""

(
    BYTE_RANKS,  # address: rank of each pair of bytes
    PAIRS,  # address: ranks of all other pairs, 2^PAIR_BITS entries
    PAIR_BITS,
    IDS,  # address: the id of each token number
    ROWS,  # address: the cache, 2^ROW_BITS rows of four uint64
    ROW_BITS,
    ROWS_USED,
    KEPT_BYTES,  # address: the bytes of cached pretokens that do not fit into a row
    KEPT_BYTES_ROOM,
    KEPT_BYTES_USED,
    KEPT_IDS,  # address: the ids of cached pretokens that have more than three
    KEPT_IDS_ROOM,
    KEPT_IDS_USED,
    LONGEST_NEW,  # longer pretokens are not taken into the cache
    LONGEST,  # longer pretokens are not looked up
    SEEDED_ROWS,  # address: the rows as they were when the encoder was new, to begin again with
    SEEDED_ROWS_USED,
    SEEDED_BYTES_USED,
    SEEDED_IDS_USED,
    TOKENS,  # addresses: the working space of `merging.apply_merges`
    BEFORE,
    AFTER,
    KEYS,
    SPACE,  # the longest pretoken for which the working space suffices
    DONE,  # result: how many pretokens were encoded
    NUM_FIELDS,
) = range(26)
