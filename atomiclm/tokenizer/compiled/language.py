# ruff: noqa: ANN001, ANN201, ANN202
"""The language kernels are written in: Python, with the few words that Python lacks.

A kernel is a function on bare addresses and 64-bit integers, as one would write it in C, compiled by numba:

- `UInt8s`, `UInt32s`, `Int32s`, `UInt64s`, `Int64s` are addresses of arrays. `p[i]` reads and writes. There is no
  length, no slice, no bounds check and no negative index, so sizes are arguments of their own.
- `uint8`, `int32`, `uint32`, `int64` and `uint64` are types and conversions. int64 and uint64 must never meet in one
  operation without a conversion: numba would make a float of it.
- Nothing is allocated, nothing is raised. A kernel that needs more room returns, and its driver calls it again.

Only kernels import this module, and kernels are only imported to be compiled (`build.py`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def inline[F: Callable[..., Any]](function: F) -> F:
    """A helper of kernels; LLVM decides whether it becomes part of its callers."""
    return cast(F, numba.njit(error_model="numpy")(function))


def kernel[F: Callable[..., int]](function: F) -> F:
    """An entry point. All parameters are annotated with the types above; the result is an int64.

    The function itself is returned: `build.py` compiles it when it is asked for.
    """
    assert function.__annotations__.get("return") is int64, f"{function.__name__}: a kernel returns int64"
    return function


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

    def uint8s_at(number: int64) -> UInt8s:
        """The array at an address that was kept as a number."""

    def int32s_at(number: int64) -> Int32s:
        """The array at an address that was kept as a number."""

    def uint32s_at(number: int64) -> UInt32s:
        """The array at an address that was kept as a number."""

    def uint64s_at(number: int64) -> UInt64s:
        """The array at an address that was kept as a number."""

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

    def _address_of(kind):
        @intrinsic
        def address(typing_context, number):
            def generate(context, builder, signature, arguments):
                return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

            return kind(types.int64), generate

        return address

    uint8s_at, int32s_at, uint32s_at, uint64s_at = map(_address_of, (UInt8s, Int32s, UInt32s, UInt64s))
