"""Checkpoints: a folder that is either complete and verified, or not there.

    checkpoints/
        step_00001000/
            model.safetensors       parameters and persistent buffers, those the run is judged by: what evaluation,
                                    sampling and export read
            optimizer.safetensors   optimizer state by parameter name, random generators; and the weights in training,
                                    where the run is judged by an average of them
            state.json              step, position in the data and in the record, seconds, flops, latest metrics,
                                    scalar optimizer state
            manifest.json           size and sha256 of the other three, and what exact resuming depends on; written last
        .tmp-step_00001010/         being written, or left by a kill: never read
        damaged_step_00000990/      found damaged, saved for inspection: never read

`layout`: names and hashes; `writing`: a moment of a run, copied and forced to disk, and which older ones are removed;
`reading`: verified, the newest sound one or the one before. Nothing in the folder can execute code.
"""

from atomiclm.tracking.run_folder import checkpoints_in
from atomiclm.training.checkpoint.layout import FORMAT_VERSION, DamagedCheckpoint, had_some, stored_step
from atomiclm.training.checkpoint.reading import Content, newest_sound, read, read_manifest, read_model, resume, rewind
from atomiclm.training.checkpoint.writing import NotFinite, Retention, Snapshot, prune, write

__all__ = [
    "FORMAT_VERSION",
    "Content",
    "DamagedCheckpoint",
    "NotFinite",
    "Retention",
    "Snapshot",
    "checkpoints_in",
    "had_some",
    "newest_sound",
    "prune",
    "read",
    "read_manifest",
    "read_model",
    "resume",
    "rewind",
    "stored_step",
    "write",
]
