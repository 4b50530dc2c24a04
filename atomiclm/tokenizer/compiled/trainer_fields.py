"""What the kernels that train and their driver agree on. Plain Python, so that the driver needs no compiler."""

(
    NUM_MERGES,  # merges made so far
    HEAP_SIZE,  # entries in the heap
    NUM_PAIRS,  # pairs that have a number
    JOINED_END,  # where, in the array of occurrences, those joined in this round end
    NUM_FIELDS,
) = range(5)

(
    FINISHED,  # all merges asked for are made
    ONLY_RARE_PAIRS,  # no pair is left that is frequent enough to have a number
    NO_ROOM,  # the next merge might need more room than there is
) = range(3)
"""What `merge_loop` returns."""

BLOCK_BITS = 6
"""`first_groups` has an entry for every 2^6 places."""
