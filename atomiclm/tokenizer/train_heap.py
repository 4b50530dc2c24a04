"""The same merges as `train_basic`, without ever reading the corpus twice.

1. A merge changes counts only next to where it happens. So every pair has its positions; we go only there, and move the
   counts of the neighbouring pairs.
2. A pair that contains the token `new` is born when `new` is, and from then on its count can only fall. So the best
   pair comes from a heap with outdated entries: one that promises too much is put back with its true count.
3. All pretokens lie one behind the other in one flat list. A token has as many positions as bytes and stands written in
   its first and its last one, so both neighbours are one step away and nothing is ever moved.

        position             0  1  2  3  4  5  6
        the start            .  h  e  l  l  o  .      ( . is EMPTY)
        (l, l) becomes X     .  h  e  X  X  o  .
        (e, X) becomes Y     .  h  Y  .  Y  o  .

The time is proportional to the bytes of the different pretokens plus the number of positions merged.
"""

import heapq
from array import array
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.train_basic import Pair, TieBreak, byte_order, with_byte_values

EMPTY = -1
"""Stands between two pretokens, and where the right half of a token began, so that old positions are recognised."""


def _no_positions() -> array[int]:
    return array("Q")  # 8 bytes a position; a list would take 40


def train_heap(pretokens: Mapping[bytes, int], num_merges: int, tie_break: TieBreak = "bytes") -> list[Pair]:
    """Learn up to `num_merges` merges; arguments, tie rule and result are those of `train_basic`."""
    order = byte_order(tie_break)  # bytes are numbered in this order on the way in, and back on the way out
    tokens: list[int] = [EMPTY]
    weights: list[int] = [0]  # of each position: how often its pretoken occurs
    lengths = [1] * TOKENIZER_BASE_LENGTH  # of each token, in bytes
    counts: defaultdict[Pair, int] = defaultdict(int)
    positions: defaultdict[Pair, array[int]] = defaultdict(_no_positions)  # of the left token; ascending, some outdated

    for spelling, weight in pretokens.items():
        pretoken = spelling.translate(order)
        for position, pair in enumerate(pairwise(pretoken), start=len(tokens)):
            counts[pair] += weight
            positions[pair].append(position)
        tokens.extend(pretoken)
        tokens.append(EMPTY)
        weights.extend([weight] * (len(pretoken) + 1))

    # The smallest entry is the one `train_basic` would choose: highest count, then smallest (left, right).
    heap = [(-count, *pair) for pair, count in counts.items()]
    heapq.heapify(heap)

    def move(weight: int, dying: Pair, born: Pair, found: array[int]) -> None:
        """Where `dying` stood, at `found` of total `weight`, now stands `born`, which never existed before."""
        counts[dying] -= weight
        if not counts[dying]:
            del counts[dying]
            positions.pop(dying, None)
        counts[born] = weight
        positions[born] = found
        heapq.heappush(heap, (-weight, *born))

    merges: list[Pair] = []
    while heap and len(merges) < num_merges:
        negative_count, left, right = heapq.heappop(heap)
        count = counts.get((left, right), 0)
        if count != -negative_count:
            if count:
                heapq.heappush(heap, (-count, left, right))
            continue

        new = TOKENIZER_BASE_LENGTH + len(merges)
        merges.append((left, right))
        left_length, right_length = lengths[left], lengths[right]
        new_length = left_length + right_length
        lengths.append(new_length)

        # First write the new token everywhere, from left to right, so that overlaps (a a a) fall as in `merge`.
        merged = _no_positions()
        for position in positions.pop((left, right)):
            if tokens[position] != left:
                continue
            right_position = position + left_length
            if tokens[right_position] != right:
                continue
            tokens[right_position] = EMPTY
            tokens[position] = tokens[position + new_length - 1] = new
            merged.append(position)

        # Then look at the neighbours, gathered by token because many positions share them.
        weight_before: defaultdict[int, int] = defaultdict(int)
        weight_after: defaultdict[int, int] = defaultdict(int)
        positions_before: defaultdict[int, array[int]] = defaultdict(_no_positions)
        positions_after: defaultdict[int, array[int]] = defaultdict(_no_positions)
        for position in merged:
            weight = weights[position]
            before = tokens[position - 1]
            if before not in (EMPTY, new):  # `new new` is counted once, by its left half
                weight_before[before] += weight
                positions_before[before].append(position - lengths[before])
            after = tokens[position + new_length]
            if after != EMPTY:
                weight_after[after] += weight
                positions_after[after].append(position)

        for before, weight in weight_before.items():
            move(weight, (before, left), (before, new), positions_before[before])
        for after, weight in weight_after.items():
            was = left if after == new else after
            move(weight, (right, was), (new, after), positions_after[after])
        counts.pop((left, right), None)
    return with_byte_values(merges, order)
