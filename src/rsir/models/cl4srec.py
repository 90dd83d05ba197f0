"""CL4SRec: SASRec and a contrastive loss over two views of each sequence (Xie et al., ICDE 2022).

A view is the sequence cropped, with events masked, or with a piece in another order; the encoder shall
give the two views of one sequence like states. The loss is added to the one over next items; in it, all
sequences of a batch count alike, whatever their weight in the other.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rsir.data.batches import Batch
from rsir.models.contrast import Views, info_nce
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged


class CL4SRecConfig(SASRecConfig):
    """SASRec's shape, and the views."""

    name: Literal["cl4srec"] = Field("cl4srec", description="which backbone")  # type: ignore[assignment]
    contrast: float = Field(0.1, ge=0, description="λ: weight of the contrastive loss")
    temperature: float = Field(0.2, gt=0, description="of the contrastive loss")
    crop: float = Field(0.6, gt=0, le=1, description="η: share of a sequence that cropping keeps")
    mask: float = Field(0.3, ge=0, le=1, description="γ: share of events that masking replaces")
    reorder: float = Field(0.6, ge=0, le=1, description="β: share of a sequence that is reordered")


class CL4SRec(SASRec):
    """SASRec with an item vector more, for masked events, and a contrastive loss."""

    config: CL4SRecConfig

    def __init__(self, num_items: int, config: CL4SRecConfig | None = None) -> None:
        config = config or CL4SRecConfig()
        super().__init__(num_items, config)
        self.item = nn.Embedding(num_items + 1, config.dim)
        nn.init.normal_(self.item.weight, std=config.init_std)
        self.views = Views(config.crop, config.mask, config.reorder, num_items)

    def item_vectors(self) -> Tensor:
        """Item vectors without the one for masked events; (V, D)."""
        weight = self.item.weight[: self.num_items]
        return weight if self.config.cosine is None else F.normalize(weight, dim=-1)

    def auxiliary_loss(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """λ times the contrastive loss of two views of each sequence, the mean over sequences."""
        if not self.config.contrast:
            return None
        views = [self.views.draw(batch.histories, generator) for _ in range(2)]
        together = Ragged.concat(views)
        one, other = self.encode(together)[together.last].chunk(2)
        return self.config.contrast * info_nce(one, other, self.config.temperature)
