"""Which checkpoints stay, whatever happens to a run: a state machine of saves, validations, damage and resumes."""

import random
import shutil
import tempfile
from pathlib import Path

import torch
from faults.disk import damage
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import nn

from atomiclm.training import TrainState, checkpoint
from atomiclm.training.checkpoint import DamagedCheckpoint, Snapshot
from atomiclm.training.hooks import REWIND_POINTS, Retention, prune


def _state() -> TrainState:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.param_groups[0]["names"] = ["weight", "bias"]
    return TrainState(model, optimizer)


class Checkpoints(RuleBasedStateMachine):
    """A folder of checkpoints, and beside it what is known of each: sound, scored, a rewind point."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp()) / "checkpoints"
        self.state = _state()
        self.sound: dict[int, bool] = {}
        self.scores: dict[int, float] = {}
        self.points: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder.parent)

    @initialize(newest=st.integers(1, 4), best=st.booleans())
    def start(self, newest: int, best: bool) -> None:
        self.retention = Retention(newest, best)

    @rule(steps=st.integers(1, 3), score=st.none() | st.sampled_from([1.0, 2.0, 3.0]), point=st.booleans())
    def save(self, steps: int, score: float | None, point: bool) -> None:
        self.state.step += steps
        about = {"rewind_point": point} | ({} if score is None else {"bits_per_byte": score})
        checkpoint.write(Snapshot.take(self.state, about, record_rows=0), self.folder)
        step = self.state.step
        self.sound[step] = True
        self.points |= {step} if point else set()
        self.scores |= {} if score is None else {step: score}
        wanted = self._wanted()
        prune(self.folder, self.retention)
        assert set(self._steps()) == wanted

    def _wanted(self) -> set[int]:
        """What must stay and nothing else: of those that can be read, the rule's; and all others."""
        before = self._steps()
        readable = [step for step in before if self._has_a_manifest(step)]
        wanted = set(readable[-self.retention.newest :])
        wanted |= set([step for step in readable if step in self.points][-REWIND_POINTS:])
        scored = [step for step in readable if step in self.scores]
        if self.retention.best and scored:
            wanted.add(max(scored, key=lambda step: (-self.scores[step], step)))
        return wanted | (set(before) - set(readable))

    @precondition(lambda self: self._steps())
    @rule(seed=st.integers(0, 99), data=st.data())
    def damage_one(self, seed: int, data: st.DataObject) -> None:
        """Never the last sound one: against that there is nothing to do but say so."""
        step = data.draw(st.sampled_from(self._steps()))
        if [other for other in self._steps() if self.sound[other]] == [step]:
            return
        files = ("model.safetensors", "optimizer.safetensors", "state.json")
        damage(self._path(step) / random.Random(seed).choice(files), random.Random(seed))
        self.sound[step] = False

    @precondition(lambda self: self._steps())
    @rule(left=st.sampled_from([".tmp-step_00000007", ".old-step_00000001"]))
    def resume(self, left: str) -> None:
        """After a crash that has left a half written folder."""
        (self.folder / left).mkdir(exist_ok=True)
        newest_sound = max(step for step in self._steps() if self.sound[step])
        beyond = [step for step in self._steps() if step > newest_sound]
        said: list[str] = []
        state = _state()
        content = checkpoint.resume(state, self.folder, said.append)
        assert content is not None
        assert state.step == newest_sound
        assert len(said) == len(beyond)
        self.state = state
        for step in [step for step in self.sound if step > newest_sound]:
            del self.sound[step]
            self.scores.pop(step, None)
            self.points.discard(step)

    @invariant()
    def one_is_sound(self) -> None:
        """What the machine knows to be sound can be read, and once there is one there always is."""
        sound = [step for step in self._steps() if self.sound[step]]
        assert sound or not self.sound
        for step in sound[-1:]:
            checkpoint.read(self._path(step))

    @invariant()
    def nothing_else_grows(self) -> None:
        if not self.folder.exists():
            return
        names = {path.name for path in self.folder.iterdir()}
        steps = {self._path(step).name for step in self._steps()}
        aside = {name for name in names if name.startswith("damaged_")}
        assert names - steps - aside == set()
        assert len(steps) <= self.retention.newest + 1 + REWIND_POINTS + self._num_unreadable()

    def _num_unreadable(self) -> int:
        return sum(not self._has_a_manifest(step) for step in self._steps())

    def _has_a_manifest(self, step: int) -> bool:
        try:
            checkpoint.read_manifest(self._path(step))
        except DamagedCheckpoint:
            return False
        return True

    def _steps(self) -> list[int]:
        return sorted(map(checkpoint.stored_step, checkpoint.checkpoints_in(self.folder)))

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"


TestCheckpoints = Checkpoints.TestCase
TestCheckpoints.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True, phases=[Phase.generate]
)
