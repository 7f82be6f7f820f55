"""The optimizers of torch.optim by name, and the learning rate of every step."""

from __future__ import annotations

import math

import torch
from torch import nn

from lstmcls.config import TrainConfig

ONE_CYCLE_WARMUP = 0.3  # of all steps, where the config names none (Smith & Topin 2017)
ONE_CYCLE_START = 1 / 25  # of the peak


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `config` over all parameters, with PyTorch's defaults elsewhere.

    Weight decay is decoupled for adamw (Loshchilov & Hutter 2019), an L2 term otherwise.
    """
    parameters, lr, decay = model.parameters(), config.lr, config.weight_decay
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr,
                config.momentum,
                weight_decay=decay,
                nesterov=config.nesterov,
                fused=True,
            )
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr, momentum=config.momentum, weight_decay=decay)
        case "adagrad":
            # On a GPU not every PyTorch has a fused one; None is the fastest that it has.
            fused = all(p.is_cpu for p in model.parameters()) or None
            return torch.optim.Adagrad(parameters, lr, weight_decay=decay, fused=fused)
    raise AssertionError(config.optimizer)


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of step `step` (from 0) of `total`.

    constant: `lr`. cosine: from `lr` down to 0 (Loshchilov & Hutter 2017, without restarts).
    one_cycle: from lr/25 up to `lr`, then a cosine down to 0 (Smith & Topin 2017).
    A warm-up rises in a line over its share of all steps, before constant and cosine too.
    """
    warmup, start = config.warmup, 0.0
    if config.schedule == "one_cycle":
        warmup, start = warmup or ONE_CYCLE_WARMUP, ONE_CYCLE_START
    rising = round(warmup * total)
    if step < rising:
        return config.lr * (start + (1 - start) * (step + 1) / (rising + 1))
    if config.schedule == "constant":
        return config.lr
    done = (step - rising) / max(1, total - rising)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))
