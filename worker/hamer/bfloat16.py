"""The network in bfloat16, made of the one in float16: for pictures whose numbers exceed float16's range."""

import copy

import torch
from torch import nn

from worker.hamer.checkpoint import BRAIN, dtype_of
from worker.hamer.modeling.hamer import Hamer


@torch.inference_mode()
def in_bfloat16(model: Hamer) -> Hamer:
    """Returns the same network with its backbone in bfloat16 around a float32 residual stream.

    Head and hand model are shared. float16 has more digits than bfloat16, so nothing is lost that the checkpoint would give.
    """
    memo: dict[int, object] = {id(buffer): buffer for buffer in model.buffers()}
    for name, weight in model.named_parameters():
        kept = not name.startswith("backbone.")
        memo[id(weight)] = (
            weight if kept else nn.Parameter(weight.to(dtype_of(name, weight, BRAIN)), requires_grad=False)
        )
    return copy.deepcopy(model, memo)
