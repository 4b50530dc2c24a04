"""atomiclm: a config-driven experiment framework for small decoder-only language models.

In Python and in notebooks::

    run = atomiclm.train_run("model=tiny", "trainer.max_steps=200")     # or atomiclm.load_run("outputs/runs/...")
    run.model, run.tokenizer, run.config, run.summary, run.frame(), run.chart(), run.generate("def ")
    atomiclm.compare_runs("outputs/runs")

The packages, in the order data flows: `tokenizer` (text to ids), `data` (corpora to shards to batches), `model` (the
decoder), `optim` (parameter groups, optimizers, schedules), `training` (the loop and its checkpoints), `evaluation`,
`generation`, `tracking` (the run record and its W&B mirror), `sweep` and `comparison` (many runs). `config` turns a
composed configuration into objects and is the only package that knows Hydra. The commands are the modules beside this
file.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atomiclm.comparison.results import Comparison
    from atomiclm.config.load import TrainedRun
    from atomiclm.config.run import RunConfig
    from atomiclm.training.runtime import Device

__version__ = "0.1.0"

__all__ = ["compare_runs", "compose", "load_run", "train_run"]

# Each function imports what it needs when it is called, torch and Hydra among it: `import atomiclm` takes no time.


def compose(*overrides: str) -> "RunConfig":
    """Compose and check a configuration, as ``atomiclm train`` does: ``compose("model=small", "seed=2")``.

    Its ``values`` are nested dicts, ``run_id`` and ``folder`` say where the run will be, ``to_yaml()`` is its text.
    Raises UserError with all faults of the configuration.
    """
    from atomiclm.config.run import compose_run

    return compose_run(overrides)


def train_run(*overrides: str, config: "RunConfig | None" = None, quiet: bool = False) -> "TrainedRun":
    """Train one run in this process, from overrides or from a ``config`` that ``compose`` returned, and return it.

    As with the command, a run that was interrupted goes on from its newest checkpoint, and one that is done is not
    trained again. ``quiet`` prints nothing; what is measured is in the record either way.

    Raises:
        UserError: the configuration or the data are wrong; no file was written.
        RunFailed: the run diverged, or memory ran out.
        KeyboardInterrupt: it was interrupted, and has saved its state; the same call goes on.
    """
    from atomiclm.cli import UserError
    from atomiclm.tracking import Console
    from atomiclm.train import train_run

    if config is None:
        config = compose(*overrides)
    elif overrides:
        raise UserError(f"give overrides or a config, not both: {overrides[0]} belongs in compose(...)")
    train_run(config, Console(io.StringIO()) if quiet else None)
    return load_run(config.folder)


def load_run(run: str | Path, device: "Device" = "cpu", outputs: str | Path = "outputs") -> "TrainedRun":
    """Load a run: its model in eval mode on ``device``, its tokenizer, configuration, summary and record.

    run       a run folder, a checkpoint in it, a run id, or any part of an id that only one run has
    device    auto, cpu, cuda or mps
    outputs   the folder in which run ids are looked up

    Raises UserError where there is no such run, or where its files are damaged.
    """
    from atomiclm.config.load import load_run
    from atomiclm.tracking import find_run

    return load_run(*find_run(str(run), outputs), device)


def compare_runs(
    path: str | Path,
    *more: str | Path,
    metric: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
) -> "Comparison":
    """Compare the runs of one or more folders (``outputs/gqa_ratio``), or single runs, arm by arm, as ``compare`` does.

    A notebook shows the result as tables and figure; ``arm("name").contrast`` has the numbers of an arm.

    metric     the figure of summary.json that decides; None is the study's, else validation/bits_per_byte
    baseline   the arm that others are held against, by its name or as key=value; None is the study's, else the first
    margin     smallest difference that matters; below it arms are called equivalent
    alpha      chance of error; 0.05 makes intervals of 95 %
    """
    from atomiclm.comparison.analysis import compare_runs
    from atomiclm.comparison.runs import read_plan, read_runs

    texts = [str(path), *map(str, more)]
    return compare_runs(
        read_runs(texts), read_plan(texts), metric=metric, baseline=baseline, margin=margin, alpha=alpha
    )
