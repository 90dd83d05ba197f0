"""Two views of a sequence, and the loss that pulls them together (CL4SRec; Xie et al., ICDE 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rsir.ragged import Ragged


def info_nce(one_BD: Tensor, other_BD: Tensor, temperature: float) -> Tensor:
    """How badly each view finds its partner among all other views of the batch; a scalar.

    −log softmax of the partner's cosine over `temperature` among the 2B − 1 other views (NT-Xent, Chen
    et al., ICML 2020), the mean over views. Guessing gives ln(2B − 1).

    >>> views = torch.eye(3)
    >>> bool(info_nce(views, views, 0.01) < 1e-6)
    True
    """
    views = F.normalize(torch.cat([one_BD, other_BD]), dim=1)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    likeness = (views @ views.T / temperature).masked_fill(itself, float("-inf"))
    partner = torch.arange(len(views), device=views.device).roll(len(one_BD))
    return F.cross_entropy(likeness, partner)


@dataclass(frozen=True)
class Views:
    """Random views of sequences: crop, mask or reorder, one of the three for each row.

    Attributes:
        crop: η, share of a row that cropping keeps, in one piece.
        mask: γ, share of the events that masking replaces.
        reorder: β, share of a row, in one piece, that is shuffled.
        mask_item: index that stands for a masked event.
    """

    crop: float
    mask: float
    reorder: float
    mask_item: int

    def draw(self, histories: Ragged, generator: torch.Generator) -> Ragged:
        """One view of each row; every row keeps at least one event."""
        kind, place = _uniform(2 * len(histories), histories, generator).view(2, -1)
        kind, length = (kind * 3).long(), histories.lengths
        none = torch.zeros_like(length)
        kept = torch.where(kind == 0, (self.crop * length).long().clamp(min=1), length)
        start = (place * (length - kept + 1)).long()
        rows = histories.slice_rows(start, start + kept)
        masked = torch.where(kind == 1, (self.mask * length).long(), none)
        shuffled = torch.where(kind == 2, (self.reorder * length).long(), none)
        rows = self._mask(rows, masked, generator)
        return self._shuffle(rows, (place * (length - shuffled + 1)).long(), shuffled, generator)

    def _mask(self, rows: Ragged, count: Tensor, generator: torch.Generator) -> Ragged:
        """Replace `count` random events of each row."""
        order = _sorted(rows, _uniform(rows.values.numel(), rows, generator))
        rank = torch.empty_like(order).index_copy_(0, order, rows.position)
        return Ragged(rows.values.masked_fill(rank < count[rows.row], self.mask_item), rows.offsets)

    def _shuffle(self, rows: Ragged, start: Tensor, count: Tensor, generator: torch.Generator) -> Ragged:
        """Put `count` events of each row, from `start` on, in random order."""
        start, count = start[rows.row], count[rows.row]
        inside = (rows.position >= start) & (rows.position < start + count)
        drawn = start + count * _uniform(rows.values.numel(), rows, generator)
        order = _sorted(rows, torch.where(inside, drawn, rows.position.double()))
        return Ragged(rows.values[order], rows.offsets)


def _uniform(count: int, rows: Ragged, generator: torch.Generator) -> Tensor:
    """Draws in [0, 1) where the rows are; float64."""
    return torch.rand(count, dtype=torch.float64, device=rows.values.device, generator=generator)


def _sorted(rows: Ragged, key: Tensor) -> Tensor:
    """Flat places sorted by `key` within each row; key in [0, longest row)."""
    return torch.argsort(rows.row * (rows.max_length + 1.0) + key, stable=True)
