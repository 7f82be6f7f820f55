"""The arithmetic of a network's passes: mixed on a GPU that has bf16, float32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lstmcls.config import TrainConfig

# A power of two. Gradients of an LSTM's inputs are about 1e-6 and less, of its weights below 0.1:
# times as much both are far from the ends of float16, 6e-8 and 65,504.
LOSS_SCALE = 2.0**12


def precision(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The arithmetic of every forward pass of this config on `device`: mixed or as it is.

    Mixed is bf16, but float16 within the LSTM: autocast's wrapper of cuDNN's RNNs casts to that
    whatever it is asked for (PyTorch, aten/src/ATen/cudnn/AutocastRNN.cpp).
    """
    return torch.autocast("cuda", torch.bfloat16) if _mixed(config, device) else nullcontext()


def loss_scale(config: TrainConfig, device: torch.device) -> float:
    """What a batch's loss is multiplied by for the backward pass: 1 where nothing is mixed.

    The loss is a mean over the batch: unscaled, a token's share of it is so small that float16
    rounds many of an LSTM's gradients to 0. What overflows is infinite, as without a scale, and
    ends the run as Diverged.
    """
    return LOSS_SCALE if _mixed(config, device) else 1.0


def _mixed(config: TrainConfig, device: torch.device) -> bool:
    """Not where a GPU would only emulate bf16."""
    return (
        config.mixed_precision
        and device.type == "cuda"
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )


def backward(loss: Tensor, model: nn.Module, scale: float) -> None:
    """The gradients of `loss`, computed at `scale` (a power of two) times their size.

    In float32 they are the same bits at any scale: a power of two changes exponents alone, and
    each step of a backward pass is linear in the gradient that comes in. Only where the arithmetic
    has few exponents, as float16, more of them survive.
    """
    torch.autograd.backward(loss * scale)
    if scale != 1:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, 1 / scale)
