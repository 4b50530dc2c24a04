"""How CPU threads wait for each other; torch-free, because OpenMP reads its settings when torch loads it."""

import os

_SPINS = 3000


def wait_briefly() -> None:
    """Let a waiting thread spin for a moment, then sleep, unless the environment says how threads should wait.

    libgomp's own default spins far longer, which gains nothing on an idle machine and loses a factor of several as soon
    as another process wants a core: the spinning thread holds the core that the thread it waits for needs. Not to spin
    at all costs a third on an idle one (benchmarks/openmp_waiting.py). Has no effect once torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(_SPINS)
