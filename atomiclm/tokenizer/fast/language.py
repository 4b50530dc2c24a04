# ruff: noqa: ANN001, ANN201, ANN202
"""The language kernels are written in: Python, with the few words that Python lacks.

A kernel (`kernel.py`) is a function on bare addresses and 64-bit integers, as one would write it in C:

- `UInt8s`, `UInt32s`, `Int32s`, `UInt64s`, `Int64s` are addresses of arrays. `p[i]` reads and writes. There is no
  length, no slice, no bounds check and no negative index, so sizes are arguments of their own.
- `uint8`, `int32`, `uint32`, `int64` and `uint64` are types and conversions. int64 and uint64 must never meet in one
  operation without a conversion: numba would make a float of it.
- Nothing is allocated, nothing is raised. A kernel that needs more room returns, and its driver calls it again.
"""

from typing import TYPE_CHECKING

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WINDOW = 64
"""Bytes that `bytes_between` looks at: as many as a uint64 has bits."""

if TYPE_CHECKING:  # what a reader, and a type checker, may think of the words below

    class _Address:
        def __getitem__(self, index: int) -> int: ...
        def __setitem__(self, index: int, value: int) -> None: ...

    UInt8s = _Address
    Int32s = _Address
    UInt32s = _Address
    UInt64s = _Address
    Int64s = _Address
    uint8 = int
    int32 = int
    uint32 = int
    int64 = int
    uint64 = int

    def load64(data: UInt8s, index: int64) -> uint64:
        """The eight bytes from `index` on as one uint64, the first byte lowest; any alignment."""

    def trailing_zeros(value: uint64) -> int64:
        """How many low bits are zero; 64 for zero."""

    def leading_zeros(value: uint64) -> int64:
        """How many high bits are zero; 64 for zero."""

    def bytes_between(data: UInt8s, position: int64, low: int64, high: int64) -> uint64:
        """The set of all i < 64 where `low <= data[position + i] <= high`."""

    def uint8s_at(address: int64) -> UInt8s:
        """The array at an address; so the next three."""

    def int32s_at(address: int64) -> Int32s: ...
    def uint32s_at(address: int64) -> UInt32s: ...
    def uint64s_at(address: int64) -> UInt64s: ...

else:
    UInt8s, UInt32s, UInt64s = map(types.CPointer, (types.uint8, types.uint32, types.uint64))
    Int32s, Int64s = map(types.CPointer, (types.int32, types.int64))
    uint8, int32, uint32, int64, uint64 = types.uint8, types.int32, types.uint32, types.int64, types.uint64

    @intrinsic
    def load64(typing_context, data, index):
        def generate(context, builder, signature, arguments):
            data_type, base = signature.args[0], arguments[0]
            if isinstance(data_type, types.Array):  # a test may run a kernel on arrays, to have its bounds checked
                base = context.make_array(data_type)(context, builder, base).data
            address = builder.bitcast(builder.gep(base, [arguments[1]]), ir.IntType(64).as_pointer())
            loaded = builder.load(address)
            loaded.align = 1
            return loaded

        return types.uint64(data, types.int64), generate

    @intrinsic
    def trailing_zeros(typing_context, value):
        def generate(context, builder, signature, arguments):
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate

    @intrinsic
    def bytes_between(typing_context, data, position, low, high):
        def generate(context, builder, signature, arguments):
            base, position, low, high = arguments
            if isinstance(signature.args[0], types.Array):  # in tests that have the bounds of arrays checked
                base = context.make_array(signature.args[0])(context, builder, base).data
            window = ir.VectorType(ir.IntType(8), WINDOW)
            loaded = builder.load(builder.bitcast(builder.gep(base, [position]), window.as_pointer()))
            loaded.align = 1

            def everywhere(value):
                nothing = ir.Constant(window, ir.Undefined)
                byte = builder.trunc(value, ir.IntType(8))
                first = builder.insert_element(nothing, byte, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), WINDOW), [0] * WINDOW)
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

    def _address_of(kind):
        @intrinsic
        def address(typing_context, number):
            def generate(context, builder, signature, arguments):
                return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

            return kind(types.int64), generate

        return address

    uint8s_at, int32s_at, uint32s_at, uint64s_at = map(_address_of, (UInt8s, Int32s, UInt32s, UInt64s))
