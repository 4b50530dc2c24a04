"""What the kernels that count and their driver agree on. Plain Python, so that the driver needs no compiler."""

(
    NUM_WORDS,  # different pretokens so far
    LONG_USED,  # bytes used of the store of long pretokens
    NUM_BYTES,  # bytes of all different pretokens together
    BEGIN,  # where the first pretoken begins that is not yet counted
    NUM_FIELDS,
) = range(5)

LENGTH_BYTES = 8
"""A long pretoken is stored as its length, in so many bytes, and its bytes."""
