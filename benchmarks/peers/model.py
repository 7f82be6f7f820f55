"""The peers' network and its training: nn.LSTM over padded rows, one validation an epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from data import Data
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

# The switches that each of the six variants has on.
VARIANTS = {
    "plain": (),
    "bidirectional": ("bidirectional",),
    "dropout": ("dropout",),
    "zero_state": ("zero_state",),
    "max_pooling": ("max_pooling",),
    "improved": ("bidirectional", "dropout", "zero_state", "max_pooling"),
}


class PaddedLSTM(nn.Module):
    """Token ids [B, T] to class logits [B, C]."""

    def __init__(self, params: Mapping[str, Any], vocab_size: int, classes: int) -> None:
        super().__init__()
        self.switches = VARIANTS[params["variant"]]
        embedding_dim, hidden_size = params["embedding_dim"], params["hidden_size"]
        bidirectional = "bidirectional" in self.switches
        self.embedding = nn.Embedding(vocab_size + 1, embedding_dim, padding_idx=vocab_size)
        self.lstm = nn.LSTM(
            embedding_dim, hidden_size, batch_first=True, bidirectional=bidirectional
        )
        self.dropout = nn.Dropout(params["dropout_rate"] if "dropout" in self.switches else 0.0)
        self.head = nn.Linear(hidden_size * (1 + bidirectional), classes)

    def forward(self, ids: Tensor) -> Tensor:
        state = None
        if "zero_state" not in self.switches:
            shape = (1 + self.lstm.bidirectional, len(ids), self.lstm.hidden_size)
            state = torch.randn(shape), torch.randn(shape)
        outputs, (last, _) = self.lstm(self.dropout(self.embedding(ids)), state)
        pooling = "max_pooling" in self.switches
        features = outputs.max(dim=1).values if pooling else torch.cat(tuple(last), dim=1)
        return self.head(self.dropout(features))


def train(params: Mapping[str, Any], data: Data, seed: int) -> Iterator[float]:
    """Train to the end of `params`, yielding the validation accuracy of every epoch.

    `params` are those of space.py; the ones that do not apply may be missing.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    batches = DataLoader(data.train, batch_size=params["batch_size"], shuffle=True)
    model = PaddedLSTM(params, data.vocab_size, data.classes)
    optimizer = make_optimizer(params, model)
    schedule = make_schedule(params, optimizer, params["epochs"] * len(batches))
    criterion = nn.CrossEntropyLoss()
    for _ in range(params["epochs"]):
        model.train()
        for ids, labels in batches:
            optimizer.zero_grad()
            criterion(model(ids), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        yield accuracy(model, data.val)


def accuracy(model: PaddedLSTM, rows: TensorDataset) -> float:
    model.eval()
    correct = 0
    with torch.no_grad():
        for ids, labels in DataLoader(rows, batch_size=128):
            correct += int((model(ids).argmax(dim=1) == labels).sum())
    return correct / len(rows)


def make_optimizer(params: Mapping[str, Any], model: nn.Module) -> Optimizer:
    weights = model.parameters()
    match params["optimizer"]:
        case "sgd":
            momentum = params["momentum"]
            nesterov = momentum > 0 and bool(params["nesterov"])
            return SGD(weights, params["lr_sgd"], momentum, nesterov=nesterov)
        case "adam":
            return Adam(weights, params["lr_adam"])
        case "adamw":
            return AdamW(weights, params["lr_adam"], weight_decay=params["weight_decay"])
        case "rmsprop":
            return RMSprop(weights, params["lr_rmsprop"])
    raise ValueError(params["optimizer"])


def make_schedule(params: Mapping[str, Any], optimizer: Optimizer, steps: int) -> LRScheduler:
    match params["schedule"]:
        case "cosine":
            return CosineAnnealingLR(optimizer, steps)
        case "one_cycle":
            lr = optimizer.param_groups[0]["lr"]
            return OneCycleLR(optimizer, lr, steps, cycle_momentum=False)
    return ConstantLR(optimizer, factor=1.0)


def record(results: Path, trial: int | str, value: float) -> None:
    """Append one validation result to `results`, a line of JSON; `time` in Unix seconds."""
    with open(results, "a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.time(), "value": value, "trial": str(trial)}) + "\n")
