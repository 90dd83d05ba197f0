"""A plain PyTorch SASRec, as one writes it without this package: the rival in training and evaluation.

Padded batches of sequences of like length, `nn.TransformerEncoder` under a causal mask, the loss at the
real positions alone, cross-entropy over the whole catalogue, fused Adam, all in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsir.data.sequences import Sequences
from rsir.models.sasrec import SASRecConfig
from rsir.ragged import Ragged

_BUCKET = 16
"""Batches whose sequences are sorted by length together."""


class PlainSASRec(nn.Module):
    """The same network as ours: as wide and as deep, the same dropout, item vectors shared."""

    def __init__(self, num_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.num_items, self.max_length = num_items, config.max_length
        self.item = nn.Embedding(num_items + 1, config.dim, padding_idx=num_items)
        self.place = nn.Embedding(config.max_length, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.dim,
            config.num_heads,
            config.dim * config.ffn_factor,
            config.dropout,
            activation=config.activation,
            batch_first=True,
            norm_first=config.norm == "pre",
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_blocks, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.dim)
        nn.init.normal_(self.item.weight, std=config.init_std)

    def forward(self, items_BL: Tensor) -> Tensor:
        """States at every place; padding stands after the events, so the causal mask hides it. (B, L, D)."""
        length = items_BL.shape[1]
        x = self.dropout(self.item(items_BL) + self.place.weight[:length])
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=x.device)
        return self.norm(self.encoder(x, mask=mask, is_causal=True))

    def score(self, histories: Ragged) -> Tensor:
        """Scores of all items after each history; (B, V)."""
        rows = histories.tail(self.max_length)
        states = self(rows.pad(rows.values, fill=self.num_items))
        last = states[torch.arange(len(rows), device=states.device), rows.lengths - 1]
        return last @ self.item.weight[: self.num_items].T


def plain_batches(data: Sequences, max_length: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Input and target items (B, L) of one pass in random order, sequences of like length together."""
    events = data.events.select(torch.nonzero(data.events.lengths >= 2).flatten()).tail(max_length + 1)
    padded = events.pad(events.values, fill=data.num_items)
    order = torch.randperm(len(events))
    buckets = [part[events.lengths[part].argsort()] for part in order.split(_BUCKET * batch_size)]
    parts = [part for bucket in buckets for part in bucket.split(batch_size)]
    for place in torch.randperm(len(parts)).tolist():
        rows = padded[parts[place], : int(events.lengths[parts[place]].max())]
        yield rows[:, :-1], rows[:, 1:]


def plain_pass(
    model: PlainSASRec,
    optimizer: torch.optim.Optimizer,
    data: Sequences,
    batch_size: int,
    max_batches: int | None = None,
) -> tuple[int, float]:
    """One pass of training, or its first batches; predictions made, and the mean loss."""
    device, predictions, total = model.item.weight.device, 0, torch.zeros(())
    model.train()
    for number, (items, target) in enumerate(plain_batches(data, model.max_length, batch_size)):
        if number == max_batches:
            break
        items, target = items.to(device), target.to(device)
        real = target != model.num_items
        scores_NV = model(items)[real] @ model.item.weight[: model.num_items].T
        loss = functional.cross_entropy(scores_NV, target[real])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        predictions += len(scores_NV)
        total += loss.detach().cpu() * len(scores_NV)
    return predictions, float(total) / predictions
