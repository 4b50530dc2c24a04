"""Numbers that the splitting kernels and the Python beside them agree on.

The order of the classes is chosen so that every question a splitter asks is one comparison: letters are the last
three, blanks are two neighbours that differ in the lowest bit, and what a sign may be are the first two.
"""

OTHER = 0
"""Signs, controls, unassigned code points, and every byte that is not UTF-8."""
MARK = 1
"""Combining marks (M): signs for most patterns, parts of words for o200k."""
SPACE = 2
"""Blanks other than line breaks."""
NEWLINE = 3
"""Carriage return and line feed."""
NUMBER = 4
"""Numbers (N)."""
UPPER = 5
"""Upper and title case (Lu, Lt)."""
LOWER = 6
"""Lower case (Ll)."""
LETTER = 7
"""Letters without case (Lm, Lo)."""

CLASS_BITS = 3
"""A class is below 2^3."""

BLOCK_BITS = 7
"""The class of code point c is stage2[stage1[c >> 7] << 7 | c & 127], and the first block is ASCII."""

WHOLE = 0
"""Codes of the patterns: `none`,"""
GPT4 = 1
"""`gpt4`,"""
CL100K = 2
"""`cl100k`,"""
GPT2 = 3
"""`gpt2`,"""
O200K = 4
"""`o200k`."""
