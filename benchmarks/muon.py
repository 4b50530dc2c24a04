"""What Muon adds to a training step of model=mini, beside AdamW.

    OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 python benchmarks/muon.py [PAIRS] [OVERRIDE...]
    ONEDNN_MAX_CPU_ISA=AVX2 ...      the same on a processor as if it had no bfloat16, which is then not used

Whole steps (forward, backward, clipping, update) on random tokens, in the precision that `precision=auto` takes; the
optimizers in turn in one process, five steps each, after as many to warm up. Printed are the medians of the CPU time of
a step, and the ratio pair by pair; then the same for the update alone.
"""

import statistics
import sys
import time

import torch

from atomiclm.config.build import build
from atomiclm.config.compose import compose, resolved
from atomiclm.machine import has_native_bfloat16
from atomiclm.model import parameter_roles
from atomiclm.training.step import clip_gradient

STEPS = 5


class Side:
    """A model under training by one optimizer."""

    def __init__(self, optimizer: str, overrides: list[str]) -> None:
        values = resolved(compose(["model=mini", f"optim={optimizer}", *overrides]))
        self.runtime = build(values["runtime"])
        self.runtime.prepare()
        self.trainer = build(values["trainer"])
        self.model = build(values["model"]).to(self.runtime.device)
        self.optimizer = build(values["optim"])(self.model.named_parameters(), parameter_roles(self.model))
        objective, model = self.trainer.objective, self.model
        self.loss = self.trainer.forward(lambda *micro_batch: objective(model, *micro_batch), self.runtime)
        shape = (values["trainer"]["batch_size"], self.model.context_length + 1)
        self.tokens = torch.randint(self.model.vocab_size, shape, generator=torch.Generator().manual_seed(0))
        self.tokens = self.tokens.to(self.runtime.device)
        self.seconds()

    def seconds(self) -> tuple[float, float]:
        """CPU seconds of a step, and of its update."""
        updating = 0.0
        started = time.process_time()
        for _ in range(STEPS):
            found = self.loss(self.tokens[:, :-1], self.tokens[:, 1:], None, None)
            (found.total / self.tokens[:, 1:].numel()).backward()
            clip_gradient([each.grad for each in self.model.parameters()], self.trainer.gradient_clip)
            before = time.process_time()
            self.optimizer.step()
            updating += time.process_time() - before
            self.optimizer.zero_grad()
        return (time.process_time() - started) / STEPS, updating / STEPS


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    adamw, muon = (Side(optimizer, sys.argv[2:]) for optimizer in ("adamw", "muon"))
    native = "native" if has_native_bfloat16(muon.runtime.device) else "not native, so not used"
    print(
        f"{muon.model.num_parameters():,} parameters, {adamw.tokens[:, 1:].numel()} tokens a step; bfloat16: {native}"
    )
    times = [(adamw.seconds(), muon.seconds()) for _ in range(pairs)]
    for index, what in enumerate(("step", "update")):
        mine, theirs = (1e3 * statistics.median(each[side][index] for each in times) for side in (1, 0))
        ratios = sorted(muon_took[index] / adamw_took[index] for adamw_took, muon_took in times)
        print(
            f"{what:6} AdamW {theirs:6.1f} ms, Muon {mine:6.1f} ms, ratio {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {pairs} pairs)"
        )


if __name__ == "__main__":
    main()
