"""Faults put into the program on purpose, each with the test that must then fail."""

from dataclasses import dataclass
from pathlib import Path

_EXACT = "tests/faults/test_exact_resume.py::test_left_twice_and_gone_on_with_it_is_the_same_run"
_CUT = "tests/faults/test_power_cut.py::test_after_any_operation_the_disk_has_what_the_run_has_promised"
_DAMAGE = "tests/faults/test_damage.py::test_the_one_before_takes_over"
_RETENTION = "tests/faults/test_retention.py"
_STATE, _CHECKPOINT, _HOOKS = "training/state.py", "training/checkpoint.py", "training/hooks.py"
_PROGRESS = "{name: scalars[name] for name in _PROGRESS}"


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file` of the package `old` becomes `new`, and `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, package: Path) -> None:
        """Change the copy of the package.

        Raises:
            LookupError: the text to change is not there exactly once.
        """
        path = package / self.file
        source = path.read_text(encoding="utf-8")
        if (found := source.count(self.old)) != 1:
            raise LookupError(f"{self.name}: {self.file} has {found} times, not once: {self.old!r}")
        path.write_text(source.replace(self.old, self.new), encoding="utf-8")


MUTANTS = (
    Mutant(
        "torch's random state is not restored", _STATE,
        "        torch.set_rng_state(of_cpu)\n", "        pass\n", f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "Python's random state is not restored", _STATE,
        "        random.setstate((python_version, tuple(python_keys), python_gauss))\n", "",
        f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "numpy's random state is not restored", _STATE,
        '        np.random.set_state(tuple(scalars["random"]["numpy"]))\n', "", f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "the place in the data is not restored", _STATE,
        _PROGRESS, _PROGRESS + " | {'batch': 0}", f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "the optimizer's state is not restored", _STATE,
        '        self._restore_optimizer(scalars["optimizer"], optimizer)\n', "", f"{_EXACT}[lion-cosine]",
    ),
    Mutant(
        "the optimizer counts its steps anew", _STATE,
        "dict(scalars.get(name, {}))", '{**scalars.get(name, {}), "step": 0}', f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "the schedule begins again", "training/trainer.py",
        "schedule.multiplier(state.step, horizon)",
        "schedule.multiplier(vars(model).update(begun=vars(model).get('begun', -1) + 1) or model.begun, horizon)",
        f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "sums since the last row are not restored", _STATE,
        _PROGRESS, _PROGRESS + " | {'interval': {}}", f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "the average of the weights begins anew", _STATE,
        _PROGRESS, _PROGRESS + " | {'averaged_steps': 0}",
        f"{_EXACT}[adamw-constant-average]",
    ),
    Mutant(
        "training goes on from the averaged weights", _STATE,
        "        _copy(training, parameters)\n", "", f"{_EXACT}[adamw-constant-average]",
    ),
    Mutant(
        "the record is not cut back", "tracking/record.py",
        "            if counted > rows:", "            if False:", f"{_EXACT}[adamw-constant]",
    ),
    Mutant(
        "the run folder is not locked", "train.py",
        "held.enter_context(run_lock(folder.path, say, wait=in_sweep(), on_takeover=lambda: os._exit(TRY_AGAIN)))",
        "pass",
        "tests/faults/test_lock.py",
    ),
    Mutant(
        "files are not flushed", "atomic_io.py",
        "        os.fsync(file.fileno())\n", "", _CUT,
    ),
    Mutant(
        "renamed first, flushed after", _CHECKPOINT,
        "        fsync(temporary)\n", "", _CUT,
    ),
    Mutant(
        "the rename is not flushed", _CHECKPOINT,
        "        fsync(folder)\n", "", _CUT,
    ),
    Mutant(
        "rows are not flushed before the checkpoint that counts them", _HOOKS,
        "before_publishing=record.sync", "before_publishing=lambda: None", _CUT,
    ),
    Mutant(
        "older ones are removed before the new one is published", _CHECKPOINT,
        "        before_publishing()\n",
        "        before_publishing()\n        for old in folder.glob('step_*'):\n            shutil.rmtree(old)\n",
        _CUT,
    ),
    Mutant(
        "hashes are not compared", _CHECKPOINT,
        "    if fingerprint(content) != expected:", "    if False:",
        f"{_DAMAGE}[bit flipped-model.safetensors]",
    ),
    Mutant(
        "a damaged checkpoint ends the run", _CHECKPOINT,
        "            damaged[path] = error\n", "            raise\n",
        f"{_DAMAGE}[truncated-model.safetensors]",
    ),
    Mutant(
        "a damaged checkpoint stays where it is", _CHECKPOINT,
        "_renamed(other, DAMAGED).name", "other.name", f"{_DAMAGE}[truncated-model.safetensors]",
    ),
    Mutant(
        "one too few is kept", _HOOKS,
        "list(found)[: retention.newest]", "list(found)[: retention.newest - 1]", _RETENTION,
    ),
    Mutant(
        "the best is the worst", _HOOKS,
        "[:1])  # of equals", "[-1:])  # of equals", _RETENTION,
    ),
    Mutant(
        "what a kill has left is not cleaned up", _CHECKPOINT,
        "    clean_up(folder)\n    return", "    return", _RETENTION,
    ),
)  # fmt: skip
