"""The same algorithms as in the plain files beside this folder, compiled.

    load_kernel("split")       the kernel `split` in split.py
    load_kernel("count.grow")  the kernel `grow` in count.py

The first call on a machine compiles a kernel (seconds) and keeps its machine code in the cache folder; later processes
load that in milliseconds, and without importing numba, which by itself would cost them a second.

| file | its one idea |
|---|---|
| `language` | the words kernels are written in |
| `build` | from a kernel to machine code |
| `load` | from machine code to a function; the files in between |
"""

from atomiclm.tokenizer.compiled.load import load_kernel, why_unavailable

__all__ = ["load_kernel", "why_unavailable"]
