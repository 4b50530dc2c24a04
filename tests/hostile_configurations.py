"""Configurations to be spoiled, and what they are spoiled with."""

import copy
import random
from collections.abc import Iterator
from typing import Any

from atomiclm.config.compose import compose, unresolved

CHOSEN = (
    ("model=tiny", "tokenizer=bytes"),
    ("model=tiny", "model/feedforward=moe_shared", "model/attention=mla", "data=markov", "optim=muon", "schedule=wsd"),
    ("model=tiny", "model/position=yarn", "model/attention=local_global", "data=recall", "optim=soap"),
    ("model=tiny", "model/lookahead=sequential", "model/init=mup", "model/block=sandwich", "data=mixture"),
)
"""Valid configurations of unlike parts."""

CODE = (
    "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.open", "subprocess.Popen",
    "subprocess.run", "torch.load", "torch.hub.load", "torch.utils.cpp_extension.load", "torch.nn.Parameter",
    "atomiclm.training.checkpoint.shutil.rmtree", "atomiclm.config.build.functools.partial",
    "atomiclm.tracking.Record", "functools.partial", "hydra.utils.get_method", "hydra.utils.call",
    "hydra.utils.instantiate", "importlib.import_module", "runpy.run_path", "canary_part.Canary", "canary_part.make",
    "pathlib.Path.touch", "shutil.rmtree", "pickle.loads", "",  ".", "..", "a", "atomiclm", "atomiclm.model",
    "atomiclm.model.", "atomiclm.model.decoder", "atomiclm.model.parameter_roles", "torch.nn", "\u0430tomiclm.model.X",
)  # fmt: skip
"""Names that a `_target_` must not be."""


def values() -> list[dict[str, Any]]:
    """The configurations of CHOSEN, interpolations as written."""
    return [unresolved(compose(chosen)) for chosen in CHOSEN]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value, those that contain others among them."""
    if path:
        yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def changed(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of `node` with `value` at `path`."""
    spoiled = copy.deepcopy(node)
    parent = spoiled
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return spoiled


def code_nodes(canary: str) -> list[Any]:
    """Nodes that would run something that makes the file `canary`, each in another way."""
    touch = f"touch {canary}"
    return [
        {"_target_": "os.system", "command": touch},
        {"_target_": "os.system", "_args_": [touch]},
        {"_target_": "builtins.eval", "_args_": [f"open({canary!r}, 'w')"]},
        {"_target_": "subprocess.Popen", "args": ["touch", canary], "_convert_": "all"},
        {"_target_": "subprocess.run", "_args_": [["touch", canary]], "_partial_": True},
        {"_target_": "functools.partial", "_args_": [{"_target_": "os.system", "_partial_": True}, touch]},
        {"_target_": "atomiclm.training.checkpoint.shutil.rmtree", "path": canary},
        {"_target_": "atomiclm.tracking.Record", "path": canary},
        {"_target_": "torch.load", "f": canary, "weights_only": False},
        {"_target_": "hydra.utils.call", "config": {"_target_": "os.system", "command": touch}},
        {"_target_": "canary_part.Canary"},
        [{"_target_": "canary_part.Canary"}],
        {"deep": {"down": [{"_target_": "os.system", "command": touch}]}},
    ]


def junk(random_: random.Random) -> Any:
    """A value that is seldom what is wanted."""
    deep: Any = 1
    for _ in range(random_.choice((3, 60))):
        deep = {"a": deep} if random_.random() < 0.5 else [deep]
    texts = (
        "", " ", "\0", "../../x", "/etc/passwd", "x" * 3000, "???", "null", "\ud83d\ude00", "1e999", "-0",
        "${seed}", "${name}",
        "${no.such}", "${oc.env:HOME}", "${oc.env:AWS_SECRET_ACCESS_KEY}", "${oc.env:A,${oc.env:MY_TOKEN}}", "${model}",
        "${oc.decode:'${oc.env:MY_TOKEN}'}", "${oc.create:{_target_: os.system}}", "${${name}}", "${", "$", "}", "%s%n",
    )  # fmt: skip
    numbers = (0, -1, 1, 2, 3, 7, 1.5, 0.0, -0.5, 1e9, 10**6, 10**9, 2**31, 2**63, 10**30, 1e308, -(10**18))
    odd = (float("nan"), float("inf"), -float("inf"), None, True, False, [], {}, [[]], {"": 1}, {1: 2}, [None] * 5)
    kinds = ([*texts], [*numbers], [*odd], [deep], [{"_target_": random_.choice(CODE)}])
    return random_.choice(random_.choice(kinds))
