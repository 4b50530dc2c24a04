"""A pretoken as two numbers that can be compared at once.

at most 15 bytes    the bytes themselves, filled up with zeros, and the length in the top byte: equal keys are equal
                    pretokens, and nothing more is compared
more                a hash, and LONG: only pretokens with the same hash are compared byte by byte
"""

from atomiclm.tokenizer.fast.kernel import UInt8s, inline, int64, load64, uint64

LONGEST_SHORT = 15
LONG = 0xFF << 56
ALL_BITS = 0xFFFFFFFFFFFFFFFF
MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: neighbouring numbers land far apart
OTHER_MULTIPLIER = 0xC2B2AE3D27D4EB4F  # odd and unlike the first, so that the halves of a key do not cancel


@inline
def bytes_at(data: UInt8s, start: int64, length: int64, size: int64) -> uint64:
    """`data[start:start + length]`, at most eight bytes, as one number; reads nothing at or beyond `size`."""
    value = uint64(0)
    if length <= 0:
        return value
    if start + 8 <= size:
        return load64(data, start) & (uint64(ALL_BITS) >> uint64(64 - 8 * length))
    for index in range(length):
        value |= uint64(data[start + index]) << uint64(8 * index)
    return value


@inline
def mix(low: uint64, high: uint64) -> uint64:
    """A hash of a key, every bit of which depends on every bit of the key."""
    value = (low ^ high >> uint64(32)) * uint64(MULTIPLIER)
    value ^= value >> uint64(32)
    value = (value ^ high) * uint64(OTHER_MULTIPLIER)
    return value ^ value >> uint64(29)


@inline
def first_slot(low: uint64, high: uint64, bits: int64) -> int64:
    """Where the search for a key begins in a table of 2^bits slots (Dietzfelbinger et al., 1997)."""
    return int64((low * uint64(MULTIPLIER) + high * uint64(OTHER_MULTIPLIER)) >> uint64(64 - bits))


@inline
def key_of(data: UInt8s, start: int64, length: int64, size: int64) -> tuple[uint64, uint64]:
    """The two numbers, as above; that of a long one is LONG and whatever the table adds."""
    if length > LONGEST_SHORT:
        hashed = uint64(length)
        for done in range(0, length, 8):
            hashed = mix(hashed, bytes_at(data, start + done, min(length - done, int64(8)), size))
        return hashed, uint64(LONG)
    in_low = min(length, int64(8))
    if start + 16 <= size:  # without a branch on the length, which no processor could foresee
        low = load64(data, start) & (uint64(ALL_BITS) >> uint64(64 - 8 * in_low))
        high = load64(data, start + 8) & ~(uint64(ALL_BITS) << uint64(8 * (length - in_low)))
    else:
        low = bytes_at(data, start, in_low, size)
        high = bytes_at(data, start + 8, length - 8, size)
    return low, high | uint64(length) << uint64(56)


@inline
def same_bytes(data: UInt8s, start: int64, other: UInt8s, other_start: int64, length: int64) -> int64:
    """Whether as many bytes of both are equal, 1 or 0."""
    index = int64(0)
    while index + 8 <= length:
        if load64(data, start + index) != load64(other, other_start + index):
            return 0
        index += 8
    while index < length:
        if data[start + index] != other[other_start + index]:
            return 0
        index += 1
    return 1
