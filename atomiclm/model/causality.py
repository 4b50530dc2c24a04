"""Whether a decoder, with a component that our tests do not know, sees no later token and has a cache that is right."""

import torch

from atomiclm.cli import UserError
from atomiclm.model.decoder import Decoder


@torch.no_grad()
def check_causality(model: Decoder) -> str | None:
    """Score random tokens, then with later ones changed, then token by token; return what to say of a wrong cache.

    Raises:
        UserError: scores change with later tokens, and the model's loss would be that of copying them.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 rounds otherwise for one token than for many
    time, draws = min(model.context_length, 32), torch.Generator().manual_seed(0)
    tokens = torch.randint(model.vocab_size, (1, time), generator=draws).to(next(model.parameters()).device)
    changed = torch.cat([tokens[:, : time // 2], (tokens[:, time // 2 :] + 1) % model.vocab_size], 1)
    model.eval()
    try:
        logits = model(tokens)
        tolerance = 1e-3 * float(logits.std())

        def differs(other: torch.Tensor, end: int) -> bool:
            return not bool(((other - logits)[:, :end].abs() <= tolerance).all())

        if differs(model(changed), time // 2):
            rule = "scores of a token change with the tokens that follow it, so the model would learn to copy them"
            raise UserError(f"model: {rule}; let each token see itself and earlier ones (`context.mask`)")
        cache = model.make_cache(1, time)
        if differs(torch.cat([model(token, cache) for token in tokens.split(1, dim=1)], 1), time):
            rule = "note: token by token, with its cache, the model scores otherwise than in one pass; samples"
            return f"{rule}\n      and `generate` are wrong until the component's cache is right"
    except UserError:
        raise
    except Exception:  # training or a sample meets it too, and the summary then says so
        pass
    finally:
        model.train()
        torch.set_float32_matmul_precision(precision)
    return None
