"""The same algorithms as in the plain files beside this folder, compiled.

    load_kernel("split")       the kernel `split` in split.py
    load_kernel("count.grow")  the kernel `grow` in count.py

The first call on a machine compiles a kernel (seconds) and keeps its machine code in the cache folder; later processes
load that in milliseconds, and without importing numba, which by itself would cost them a second. `are_compiled` says
which of the two it would be.

| file | its one idea |
|---|---|
| `language` | the words kernels are written in |
| `build`, `load` | from a kernel to machine code; from machine code to a function, and the files in between |
| `classes` | the numbers that splitters and Python share: classes of characters, codes of patterns |
| `split` | cut text into pretokens |
| `split_characters`, `split_window` | one character after the other; sixty-four bytes at once |
| `split_gpt4`, `split_gpt2`, `split_o200k` | one pattern each, alternative by alternative |
| `pretoken_keys` | a pretoken as two numbers |
| `count`, `counter_fields` | how often each pretoken occurs |
| `places` | the different pretokens as one array |
| `scan`, `pair_heap`, `trainer_fields` | which pairs there are; the best of them |
| `merge_loop` | merge the best pair, and see what that changes |
| `merging` | the merges of one pretoken, lowest rank first |
| `encode`, `encoder_fields` | look pretokens up, merge those that are new |
"""

from atomiclm.tokenizer.compiled.load import are_compiled, load_kernel, why_unavailable

__all__ = ["are_compiled", "load_kernel", "why_unavailable"]
