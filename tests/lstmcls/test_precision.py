"""Mixed precision, where it can be had, loses no small gradients. Here it is played on a CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn import functional

from lstmcls.config import TrainConfig
from lstmcls.fit import TrainingState
from lstmcls.precision import backward, loss_scale, precision


def _gpu_with(bf16: bool) -> Any:
    """What `torch.cuda.is_bf16_supported` is on a GPU that has bf16, or emulates it only."""
    return lambda including_emulation=True: bf16 or including_emulation


def test_the_scale_keeps_gradients_that_float16_would_lose(
    tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", _gpu_with(bf16=True))
    config = dataclasses.replace(tiny, batch_size=64, mean_pooling=True, max_pooling=False)
    model = TrainingState.create(config, 100, 2).model.eval()
    ids = torch.randint(2, 100, (64, 200), generator=torch.Generator().manual_seed(0))
    lengths, labels = torch.full((64,), 200), torch.arange(64) % 2

    def gradients(scale: float) -> torch.Tensor:
        """Of the vectors that the LSTMs read [64, 200, features]."""
        caught = []

        def catch(module: Any, inputs: Any, output: torch.Tensor) -> None:
            del module, inputs
            output.retain_grad()
            caught.append(output)

        hook = model.embedding.register_forward_hook(catch)
        model.zero_grad()
        backward(functional.cross_entropy(model(ids, lengths), labels), model, scale)
        hook.remove()
        return caught[0].grad / scale

    def through_float16(*tensors: torch.Tensor) -> None:
        for tensor in tensors:
            tensor.register_hook(lambda gradient: gradient.half().float())

    wanted = gradients(1)
    lstms = [module for module in model.modules() if isinstance(module, torch.nn.LSTM)]
    for lstm in lstms:  # gradients enter and leave it in float16, as in cuDNN's under autocast
        lstm.register_forward_hook(
            lambda _, inputs, outputs: through_float16(inputs[0], outputs[0])
        )
    scale = loss_scale(config, torch.device("cuda"))

    def wrong(found: torch.Tensor) -> float:
        """The share of gradients that are off by more than a hundredth."""
        return float(((found - wanted).abs() > 0.01 * wanted.abs()).float().mean())

    assert wrong(gradients(1)) > 0.2, "float16 spoils nothing here: the test shows nothing"
    assert wrong(gradients(scale)) < 0.05


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_loss_is_scaled_where_training_is_mixed(
    tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    whole = dataclasses.replace(tiny, mixed_precision=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", _gpu_with(bf16=True))
    assert isinstance(precision(tiny, cuda), torch.autocast)
    assert loss_scale(tiny, cuda) == 2**12
    unmixed = [(tiny, cpu), (whole, cuda)]
    assert [loss_scale(*case) for case in unmixed] == [1, 1]
    assert not any(isinstance(precision(*case), torch.autocast) for case in unmixed)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", _gpu_with(bf16=False))
    assert not isinstance(precision(tiny, cuda), torch.autocast)
    assert loss_scale(tiny, cuda) == 1
