"""From a kernel to machine code: numba, asked for a C function and then for its object file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import binding

SYMBOL = "atomiclm_kernel"
"""The name of the function in every object file."""


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel.

    Attributes:
        symbol: the name of the function in the object file.
        num_arguments: how many arguments it takes, each an integer or an address of 64 bits.
        code: the object file.
    """

    symbol: str
    num_arguments: int
    code: bytes


def build(module: str, function: str) -> MachineCode:
    """Compile one kernel of this folder for this processor.

    Raises:
        ImportError: numba is not installed.
    """
    import numba

    kernel: Callable[..., int] = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    types: dict[str, Any] = dict(kernel.__annotations__)
    result = types.pop("return")
    assert len(types) == kernel.__code__.co_argcount, f"{module}.{function}: every parameter needs a type"
    # The numpy model of errors: integer division by zero gives zero instead of code that raises.
    compiled = numba.cfunc(result(*types.values()), error_model="numpy")(kernel)
    machine = target_machine()
    module_code = _only(binding.parse_assembly(compiled.inspect_llvm()), compiled.native_name, machine)
    return MachineCode(SYMBOL, len(types), machine.emit_object(module_code))


def _only(module: Any, native_name: str, machine: Any) -> Any:
    """The kernel under the name SYMBOL, and nothing else.

    numba wraps a kernel in code that turns exceptions into Python's, and that code needs numba at run time. Kernels
    raise nothing, so we wrap the function itself: `int32 function(result address, exception address, arguments...)`.
    Should one raise all the same, the process ends: that is a fault of ours, and no result is better than a wrong one.
    """
    inner = module.get_function(native_name.removeprefix("cfunc."))
    arguments = [str(argument.type) for argument in inner.arguments][2:]
    parameters = ", ".join(f"{kind} %a{index}" for index, kind in enumerate(arguments))
    wrapper = binding.parse_assembly(
        f"""
        target triple = "{module.triple}"
        target datalayout = "{module.data_layout}"
        declare i32 @"{inner.name}"(ptr, ptr, {", ".join(arguments)})
        declare void @llvm.trap()
        define i64 @{SYMBOL}({parameters}) {{
          %result = alloca i64
          %exception = alloca ptr
          store i64 0, ptr %result
          %status = call i32 @"{inner.name}"(ptr %result, ptr %exception, {parameters})
          %raised = icmp ne i32 %status, 0
          br i1 %raised, label %stop, label %end
        stop:
          call void @llvm.trap()
          unreachable
        end:
          %value = load i64, ptr %result
          ret i64 %value
        }}
        """
    )
    module.link_in(wrapper)
    for function in module.functions:
        if not function.is_declaration and function.name != SYMBOL:
            function.linkage = "internal"
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options()))
    needed = {function.name for function in module.functions if function.is_declaration}
    outside = {name for name in needed if not name.startswith("llvm.") and name not in ("memset", "memcpy", "memmove")}
    assert not outside, f"a kernel may need nothing from outside, needs {sorted(outside)}"
    return module


def target_machine() -> Any:
    """LLVM's picture of this processor with all it can do."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
    )
