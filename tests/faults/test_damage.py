"""Every file of a checkpoint, cut off and with bits flipped at many places: never loaded in silence."""

import random
import shutil

import pytest
import torch
from faults.disk import flip, truncate
from faults.small_runs import SAVED_EVERY, Setting, go_on

from atomiclm.training import checkpoint
from atomiclm.training.checkpoint import DamagedCheckpoint

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
PLACES = 10


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run's checkpoints after two rewind points, steps 4 and 8."""
    folder = tmp_path_factory.mktemp("saved")
    go_on(Setting(average=True), folder, 2 * SAVED_EVERY, keep_best=False)
    return folder / "checkpoints"


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["truncated", "bit flipped"])
def test_the_one_before_takes_over(saved, tmp_path, name, kind):
    *_, newest = sorted(saved.glob("step_*"))
    size = (newest / name).stat().st_size
    chance = random.Random(name)
    places = [size * place // PLACES for place in range(PLACES)]  # the first of them leaves nothing
    if kind == "bit flipped":
        places = [8 * place + chance.randrange(8 * size // PLACES) for place in places]
    state = Setting(average=True).state()
    for place in places:
        folder = tmp_path / str(place)
        shutil.copytree(saved, folder)
        (truncate if kind == "truncated" else flip)(folder / newest.name / name, place)
        said: list[str] = []
        content = checkpoint.resume(state, folder, said.append)
        assert content is not None
        assert state.step == content.manifest["step"] == SAVED_EVERY, f"{name} {kind} at {place} of {size} bytes"
        assert len(said) == 1
        assert newest.name in said[0]
        assert "damaged" in said[0]
        assert (folder / f"damaged_{newest.name}").is_dir()
        assert not (folder / newest.name).exists()


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_a_manifest_is_noticed(saved, tmp_path):
    """It vouches for the others, and nothing vouches for it but itself."""
    *_, newest = sorted(saved.glob("step_*"))
    place = shutil.copytree(newest, tmp_path / newest.name)
    manifest = place / "manifest.json"
    original = manifest.read_bytes()
    unnoticed = []
    for bit in range(0, 8 * len(original), 7):  # every byte, and in turn every bit of one
        flip(manifest, bit)
        try:
            checkpoint.read(place)
            unnoticed.append(original[max(0, bit // 8 - 12) : bit // 8 + 8])
        except DamagedCheckpoint:
            pass
        manifest.write_bytes(original)
    assert not unnoticed


@pytest.mark.parametrize("name", FILES)
def test_where_none_is_sound_they_are_named_and_left_alone(saved, tmp_path, name):
    folder = shutil.copytree(saved, tmp_path / "all")
    steps = sorted(path.name for path in folder.glob("step_*"))
    for step in steps:
        truncate(folder / step / name, 7)
    state = Setting(average=True).state()
    before = {name: weight.clone() for name, weight in state.model.named_parameters()}
    with pytest.raises(DamagedCheckpoint) as refusal:
        checkpoint.resume(state, folder, print)
    assert all(step in str(refusal.value) for step in steps)
    assert sorted(path.name for path in folder.glob("step_*")) == steps
    assert all(torch.equal(weight, before[name]) for name, weight in state.model.named_parameters())
    assert state.step == 0
