"""Damage done by a seeded generator: to bytes without knowing them, and to JSON knowing where its values are.

Everything is drawn from the `random.Random` that is handed in, so the same seed gives the same files on every machine.
"""

import copy
import json
import random
import struct

INTERESTING = (0, 1, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

# What people write who want a reader to fall: wrong types, sizes, names that lead elsewhere, text no terminal likes.
VALUES = (
    None, True, False, -1, 0, 1, 2, 3, 7, 255, 256, 65536, 2**31, 2**40, 2**63, 10**30, 10**9, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "0", "1", "null", "x" * 300, "x" * 70_000, "\x00", "\ud800",
    "\x1b[2J\x1b]0;gotcha\x07", "../../../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "CON", "~", "%s%n{0}",
    "<u2", "|O", "O", "<M8[s]", "float32", "__import__('os').system('touch canary')", "!!python/object/apply:os.system",
    [], [[]], [None], [1, 2, 3], [[[[[[[[]]]]]]]], {}, {"": {}}, {"a": [{}]}, [0] * 3000,
    {str(n): n for n in range(500)},
)  # fmt: skip


def mutated_bytes(rng: random.Random, data: bytes, places: tuple[int, int] | None = None) -> bytes:
    """`data` after one to four small disasters, in the stretch `places` where one is given."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        if not content:
            break
        first, past = places or (0, len(content))
        first, past = min(first, len(content) - 1), min(past, len(content))
        place = rng.randrange(first, max(past, first + 1))
        length = min(rng.choice((1, 1, 2, 3, 8, 40, 300)), len(content) - place)
        match rng.choice(("flip", "flip", "byte", "delete", "insert", "cut", "swap", "repeat", "zero", "number")):
            case "flip":
                content[place] ^= 1 << rng.randrange(8)
            case "byte":
                content[place] = rng.randrange(256)
            case "delete":
                del content[place : place + length]
            case "insert":
                content[place:place] = rng.randbytes(length)
            case "cut":
                del content[place:]
            case "swap":
                other = rng.randrange(len(content))
                content[place], content[other] = content[other], content[place]
            case "repeat":
                content[place:place] = content[place : place + length] * rng.choice((1, 2, 50))
            case "zero":
                content[place : place + length] = bytes(length)
            case "number":
                raw = struct.pack("<Q", rng.choice(INTERESTING))[: rng.choice((1, 2, 4, 8))]
                content[place : place + len(raw)] = raw
    return bytes(content)


def mutated_tree(rng: random.Random, tree, times: int | None = None):
    """A copy of a JSON value with one to three of its values replaced, nudged, removed, doubled or exchanged."""
    whole = [copy.deepcopy(tree)]
    for _ in range(times or rng.choice((1, 1, 1, 2, 3))):
        node, key = _somewhere(rng, whole)
        value = node[key]
        match rng.choice(("replace", "replace", "replace", "nudge", "remove", "double", "exchange", "wrap")):
            case "replace":
                node[key] = copy.deepcopy(rng.choice(VALUES))
            case "nudge":
                node[key] = _nudged(rng, value)
            case "remove" if node is not whole:
                del node[key]
            case "double" if isinstance(node, list):
                node.insert(key, copy.deepcopy(value))
            case "double":
                if isinstance(node, dict):
                    node[f"{key}{rng.choice(('', '_', '2', ' ', chr(0)))}"] = copy.deepcopy(value)
            case "exchange":
                other, place = _somewhere(rng, whole)
                node[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(value)
            case "wrap":
                node[key] = rng.choice(([value], {"type": value}, json.dumps(value, default=str)))
    return whole[0]


def spelled(rng: random.Random, tree) -> bytes:
    """The value as JSON, now and then as only a careless writer would put it."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.9)
    match rng.randrange(40):
        case 0:
            text = "[" * 100_000 + text
        case 1:
            text = text.replace(":", ": " + "9" * 5000, 1)
        case 2:
            text = "\ufeff" + text
        case 3:
            text = text[:-1] + "," + text[1:]
    return text.encode("utf-8", "surrogatepass")


def _somewhere(rng: random.Random, whole: list):
    """A container within the tree and a key of it."""
    node, key = whole, 0
    while True:
        value = node[key]
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if not keys or rng.random() < 0.2:
            return node, key
        node, key = value, rng.choice(keys)


def _nudged(rng: random.Random, value):
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 1000, value + 2**32, float(value), str(value)))
    if isinstance(value, float):
        return rng.choice((value * 1e300, -value, 0.0, int(value) if abs(value) < 1e300 else 0, str(value)))
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        return value[:place] + rng.choice(("x", "\x00", "/", "../", "é", "\ud800", "0" * 400)) + value[place:]
    if isinstance(value, list):
        return rng.choice((value[::-1], value[1:], value * 2, value * 40, [value]))
    return dict(reversed(value.items())) if rng.random() < 0.5 else {"": value}
