"""Whatever option is chosen: parameters equal numel, FLOPs equal torch's counter, cache bytes equal the tensors."""

import pytest
import torch
from small_model import PRESET_SIZES, groups, small_decoder, small_preset

from atomiclm.model import NextToken, attention_kernel

OPTIONS = [f"{group}={option}" for group, options in groups().items() for option in options]


@pytest.mark.one_in(6)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option(option):
    _is_accounted_for(small_decoder(option))


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", PRESET_SIZES)
def test_every_preset(name):
    _is_accounted_for(small_preset(name))


def _is_accounted_for(model):
    from torch.utils.flop_counter import FlopCounterMode

    by_role = model.num_parameters_by_role()
    assert sum(by_role.values()) == model.num_parameters() == sum(p.numel() for p in set(model.parameters()))

    time = model.context_length
    tokens = torch.randint(model.vocab_size, (2, time), generator=torch.Generator().manual_seed(0))
    # Products of the fused kernels are unknown to the counter; those of the plain one it sees.
    with attention_kernel("explicit"):
        model.eval()
        with FlopCounterMode(display=False) as forward:
            model(tokens)
        model.train()
        with FlopCounterMode(display=False) as training:
            NextToken()(model, tokens, tokens).total.backward()
    assert forward.get_total_flops() == model.flops_per_token(time) * tokens.numel()
    assert training.get_total_flops() == model.training_flops_per_token(time) * tokens.numel()

    model.eval()
    cache = model.make_cache(2, time, torch.bfloat16)
    assert cache.num_bytes == 2 * model.cache_bytes(time, bytes_per_element=2)
    longer = model.make_cache(1, 3 * time, torch.float32)
    assert longer.num_bytes == model.cache_bytes(3 * time, bytes_per_element=4)
