"""From the checkpoints of a run to its state: the newest sound one, and aloud where that is not the newest."""

from collections.abc import Callable
from pathlib import Path

from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.layout import DamagedCheckpoint, candidates
from atomiclm.training.checkpoint.reading import Content, read, read_manifest
from atomiclm.training.checkpoint.retention import discard_after, quarantine, sweep
from atomiclm.training.state import OtherModel, TrainState


def resume(state: TrainState, folder: Path, say: Callable[[str], None]) -> Content | None:
    """Restore the newest sound checkpoint under `folder`, and return it; None where there is none to restore.

    A damaged one is named aloud and moved out of the way, and the one before is tried. Only for who holds the run.

    Raises:
        DamagedCheckpoint: there are checkpoints and none is sound; training from the start would hide a loss.
        OtherModel: a sound checkpoint is of another model; the message names what differs.
    """
    sweep(folder)
    return _newest(state, candidates(folder), folder, say)


def rewind(state: TrainState, folder: Path, say: Callable[[str], None]) -> Content:
    """Restore the newest sound rewind point, and remove what lies beyond it.

    Raises:
        DamagedCheckpoint: none is sound.
    """
    points = [path for path in candidates(folder) if _may_be_rewind_point(path)]
    content = _newest(state, points, folder, say)
    if content is None:
        raise DamagedCheckpoint(f"{folder} has no checkpoint to rewind to")
    discard_after(folder, state.step)
    return content


def _newest(state: TrainState, paths: list[Path], folder: Path, say: Callable[[str], None]) -> Content | None:
    damaged: dict[Path, DamagedCheckpoint] = {}
    for path in paths:
        try:
            content = _restored(state, path)
        except DamagedCheckpoint as error:
            damaged[path] = error
            continue
        # Only now, with a sound one in hand: if there were none, the next start must find them and refuse as this does.
        for other, damage in damaged.items():
            say(f"{damage}; kept as {quarantine(other).name}, going on from {path.name}")
        return content
    if damaged:
        raise DamagedCheckpoint(
            f"no checkpoint under {folder} is sound: {'; '.join(map(str, damaged.values()))}. "
            f"Remove {folder.parent} to train from the start."
        )
    return None


def _restored(state: TrainState, path: Path) -> Content:
    content = read(path)
    try:
        state.restore(content.scalars, content.model, content.optimizer)
    except OtherModel as error:
        raise OtherModel(f"{path}: {layout.shown(str(error), 1000)}") from None
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        # The hashes are right, so it was written like this: by another program, or to be read by us.
        raise DamagedCheckpoint(f"{path} is damaged: its state is none ({layout.shown(error)})") from error
    return content


def _may_be_rewind_point(path: Path) -> bool:
    """Whether it is one, or does not say: it is then told as damaged, and not passed over."""
    try:
        return bool(read_manifest(path).get("rewind_point"))
    except DamagedCheckpoint:
        return True
