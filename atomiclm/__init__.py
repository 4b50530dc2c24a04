"""atomiclm: a config-driven experiment framework for small decoder-only language models.

The packages, in the order data flows: `tokenizer` (text to ids), `data` (corpora to shards to batches), `model` (the
decoder), `optim` (parameter groups, optimizers, schedules), `training` (the loop and its checkpoints), `evaluation`,
`generation`, `tracking` (the run record and its W&B mirror), `study` (comparing runs). `config` turns a composed
configuration into objects and is the only package that knows Hydra. The commands are the modules beside this file.
"""

__version__ = "0.1.0"
