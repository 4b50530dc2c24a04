"""Commands of the documentation as forks of one process that has imported torch: each costs no import.

`python forked.py SOCKET` waits for commands. On the PATH is, as `python`, `uv` and `atomiclm`, a shim that hands its
arguments, folder, environment and streams to that process, and ends with the command's exit status.
"""

import contextlib
import json
import os
import re
import runpy
import socket
import sys
from pathlib import Path

BUDGET = {
    "trainer.max_steps": "3", "trainer.batch_size": "2", "evaluation.times": "1", "evaluation.samples": "1",
    "evaluation.sample_times": "1", "evaluation.sample_tokens": "4", "evaluation.anchors": "false",
    "tokenizer.vocab_size": "300", "data": "text", "data.path": "my_texts/", "schedule.warmup_steps": "1",
    "tracking": "off",
}  # fmt: skip
"""Overrides that make any training short, where a command does not say otherwise."""

SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    request = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(request)
    sys.exit(connection.recv(1)[0])
"""


def install(folder: Path, address: str) -> None:
    """Write the shims into `folder`, which then stands first on the PATH."""
    folder.mkdir()
    for name in ("python", "uv", "atomiclm"):
        shim = folder / name
        shim.write_text(SHIM.format(python=sys.executable, address=address))
        shim.chmod(0o755)


def shorten(arguments: list[str]) -> list[str]:
    """With the budget's overrides: those whose key, group or data the command does not set itself."""
    arguments = [argument.replace("vocab_size=4096", "vocab_size=300") for argument in arguments]
    # A study of many cells is tried with some of them.
    if "experiments=gqa_ratio" in arguments:
        arguments = [*arguments, "arm=kv8,kv1", "study.seeds=[1,2]"]
    given = {argument.partition("=")[0].lstrip("+~") for argument in arguments}
    own_data = "data" in given
    own_tokenizer = any(key == "tokenizer" or key.startswith("tokenizer.") for key in given)
    budget = BUDGET | {"trainer.max_steps": "5"} if "trainer.branch_from" in given else BUDGET
    added = [
        f"{key}={value}"
        for key, value in budget.items()
        if key not in given
        and not (own_data and key.startswith("data"))
        and not (own_tokenizer and key.startswith("tokenizer"))
    ]
    return [re.sub(r"^([\w./]+=[\w.-]+,[\w.-]+)(,[\w.-]+)+$", r"\1", each) for each in arguments] + added


def execute(name: str, arguments: list[str]) -> None:
    if name == "uv":  # uv run COMMAND ...
        assert arguments[0] == "run", arguments
        name, *arguments = arguments[1:]
    if name == "atomiclm":
        name, arguments = "python", ["-m", "atomiclm", *arguments]
    assert name == "python", name
    sys.path.insert(0, os.getcwd())
    if arguments[0] != "-m":
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        return
    module, *arguments = arguments[1:]
    command = arguments[0] if module == "atomiclm" and arguments else module.removeprefix("atomiclm.")
    if command in ("train", "plan", "prepare") and "--help" not in arguments:
        arguments = shorten(arguments)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def serve(address: str) -> None:
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import atomiclm.comparison
    import atomiclm.evaluation
    import atomiclm.generation
    import atomiclm.interop
    import atomiclm.training  # noqa: F401

    for module in [name for name in sys.modules if name in ("atomiclm.train", "atomiclm.plan")]:
        del sys.modules[module]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _answer(connection: socket.socket) -> None:
    """In a fork that outlives the command: run it in a fork of its own and report its exit status."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(1 << 16)
    name, arguments, folder, environment = json.loads(request)
    process = os.fork()
    if process:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        connection.sendall(bytes([status % 256]))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # The streams of this process may be what the command's are: begin with new ones on the same numbers.
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    code: object = 0
    try:
        execute(name, arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(int(code or 0))  # type: ignore[call-overload]


if __name__ == "__main__":
    serve(sys.argv[1])
