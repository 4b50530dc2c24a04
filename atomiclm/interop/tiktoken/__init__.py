"""The formats of tiktoken: `tiktoken.Encoding` and the `.tiktoken` file of ranks. tiktoken itself may be missing."""

from atomiclm.interop.tiktoken.encoding import from_tiktoken, to_tiktoken
from atomiclm.interop.tiktoken.ranks import from_ranks, ranks_of, read_ranks, write_ranks

__all__ = ["from_ranks", "from_tiktoken", "ranks_of", "read_ranks", "to_tiktoken", "write_ranks"]
