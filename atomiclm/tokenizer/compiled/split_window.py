# ruff: noqa: ANN001, ANN201, ANN202
r"""Sixty-four bytes at once: what the splitters do where the text is ASCII.

A splitter that asks character after character what it is spends its time waiting for the answers. So the window is
turned into sets of places, 64-bit numbers in which bit i speaks of byte i: the letters, the digits, the blanks. On
sets, questions about neighbours are shifts and masks, for all places together:

    a letter, and before it none                letters & ~(letters << 1)
    the runs that have their beginning in `x`   runs & ~(runs + x)          the addition carries through the run

(Langdale and Lemire, 2019, arXiv 1902.08318, section 3.1, find the strings of a JSON text this way.)

A window begins where a pretoken begins, so nothing before it matters. It ends at the first byte that is not ASCII. What
a splitter says about the window must hold however the text goes on: so it says nothing about what lies in blanks that
reach the end of the window, and the pretoken that reaches it is left for the next window.

`split_gpt4.py`, `split_gpt2.py` and `split_o200k.py` each say which pretokens begin in a window, beside the function
that finds the end of a single one, alternative by alternative. That one is the meaning, and takes over wherever a
window does not help: non-ASCII text, pretokens longer than a window, the end of the text.
"""

from typing import TYPE_CHECKING

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from atomiclm.tokenizer.compiled.language import Int64s, UInt8s, inline, int64, trailing_zeros, uint64

WIDTH = 64
"""Bytes in a window: as many as a uint64 has bits."""

if TYPE_CHECKING:

    def bytes_between(data: UInt8s, place: int64, low: int64, high: int64) -> uint64:
        """The places i < 64 where `low <= data[place + i] <= high`."""

    def leading_zeros(value: uint64) -> int64:
        """How many high bits are zero; 64 for zero."""
else:

    @intrinsic
    def bytes_between(typing_context, data, place, low, high):
        def generate(context, builder, signature, arguments):
            base, place, low, high = arguments
            if isinstance(signature.args[0], types.Array):  # in tests that have the bounds of arrays checked
                base = context.make_array(signature.args[0])(context, builder, base).data
            window = ir.VectorType(ir.IntType(8), WIDTH)
            loaded = builder.load(builder.bitcast(builder.gep(base, [place]), window.as_pointer()))
            loaded.align = 1

            def everywhere(value):
                nothing = ir.Constant(window, ir.Undefined)
                byte = builder.trunc(value, ir.IntType(8))
                first = builder.insert_element(nothing, byte, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
                return builder.shuffle_vector(first, nothing, zeros)

            # One comparison: below `low` the difference wraps around and is large.
            span = everywhere(builder.sub(high, low))
            return builder.bitcast(
                builder.icmp_unsigned("<=", builder.sub(loaded, everywhere(low)), span), ir.IntType(64)
            )

        return types.uint64(data, types.int64, types.int64, types.int64), generate

    @intrinsic
    def leading_zeros(typing_context, value):
        def generate(context, builder, signature, arguments):
            return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate


@inline
def behind(places: uint64) -> uint64:
    """The places whose left neighbour is in the set."""
    return places << uint64(1)


@inline
def before(places: uint64) -> uint64:
    """The places whose right neighbour is in the set."""
    return places >> uint64(1)


@inline
def up_to_first_gap(places: uint64) -> uint64:
    """The run of places that begins at 0."""
    return (~places & (places + uint64(1))) - uint64(1)


@inline
def last_place(places: uint64) -> int64:
    """The highest place of a set that is not empty."""
    return int64(63) - leading_zeros(places)


@inline
def single(place: int64) -> uint64:
    """The set of one place."""
    return uint64(1) << uint64(place)


@inline
def settled(solid: uint64) -> uint64:
    """Up to where a splitter may speak: to the place behind the last of `solid`, which is what is no blank, not empty.

    A blank there begins a run, and so a piece. Which of the blanks behind it do, only the end of their run tells.
    """
    return (uint64(4) << uint64(last_place(solid))) - uint64(1)


@inline
def every_third(digits: uint64) -> uint64:
    r"""Where the pieces of `\p{N}{1,3}` begin: at the first digit of a run and at every third after it."""
    first = digits & ~behind(digits)
    fourth = digits & (digits << uint64(1)) & (digits << uint64(2)) & (digits << uint64(3))
    begins = first
    while first:
        first = (first << uint64(3)) & fourth
        begins |= first
    return begins


@inline
def blanks_begin(blanks: uint64, breaks: uint64) -> uint64:
    r"""Where the pieces of `\s*[\r\n]+|\s+(?!\S)|\s+` begin.

    Args:
        blanks: those that are no line break.
        breaks: the line breaks that no piece of signs has taken.
    """
    white = blanks | breaks
    begins = white & ~behind(white)
    # The last blank of a run goes with what follows, or is a piece alone: in any case it is a beginning.
    begins |= blanks & ~before(white)
    # Blanks behind the last line break of a run begin a piece.
    lines = blanks & behind(breaks)
    not_last = (blanks + lines) & breaks
    while not_last:
        lines ^= single(last_place(lines & (not_last ^ (not_last - uint64(1)))))
        not_last &= not_last - uint64(1)
    return begins | lines


@inline
def write_ends(begins: uint64, place: int64, ends: Int64s, count: int64) -> int64:
    """Write where pretokens end, which is where the next begin; returns how many there are now."""
    begins &= ~uint64(1)
    while begins:
        ends[count] = place + trailing_zeros(begins)
        count += 1
        begins &= begins - uint64(1)
    return count
