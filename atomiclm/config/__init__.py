"""Configurations: composing, checking and building them. Here stands what is read of them without Hydra or torch."""

IDENTITY = ("tokenizer", "data", "model", "optim", "schedule", "trainer", "seed")
"""The groups that define a run: change one of their values and it is another run.

The rest is where a run is saved, how it is watched, how this machine executes it, what it was matched to and which
study it belongs to (what an arm, a profile, a match or a dev split come to stands in the configuration as if it had
been given). None of it changes what is learned beyond the order of floating-point sums (device, micro-batch,
compilation). `trainer.precision=auto` is hashed as it stands, and what it came to on a machine is in
`environment.json`; name the precision to have it in the hash."""

CACHE_DTYPE = "bfloat16"
"""What bytes of the cache are counted in, whatever a run's precision is: its arms' figures then meet everywhere."""
