"""How CPU threads wait for each other; torch-free, because OpenMP reads its settings when torch loads it."""

import os


def wait_passively() -> None:
    """Let waiting threads sleep instead of spinning, unless the environment says how they should wait.

    Spinning gains a few per cent on an idle machine, and loses a factor of several as soon as another process wants a
    core: the spinning thread holds the core that the thread it waits for needs (benchmarks/openmp_waiting.py).
    Has no effect once torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"
