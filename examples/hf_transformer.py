"""A causal transformer of Hugging Face as the backbone: two methods, and it takes part in everything.

pip install 'rsir[transformers]'
rsir run LOG --model own --set model.factory=examples/hf_transformer.py:HFTransformer
"""

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from rsir.models import OwnConfig, SequenceModel
from rsir.ragged import Ragged


class HFTransformer(SequenceModel):
    """GPT-2 over item ids; its token embedding is shared between input and output."""

    def __init__(self, num_items: int, config: OwnConfig) -> None:
        super().__init__()
        self.num_items, self.max_length = num_items, config.max_length
        shape = {"n_embd": config.dim, "n_layer": config.num_blocks, "n_positions": config.max_length}
        shape["n_head"] = config.options.get("num_heads", 2)
        rates = {"resid_pdrop": config.dropout, "embd_pdrop": config.dropout, "attn_pdrop": 0.0}
        tokens = {"vocab_size": num_items, "bos_token_id": None, "eos_token_id": None}
        self.network = GPT2Model(GPT2Config(use_cache=False, **tokens, **shape, **rates))

    def encode(self, histories: Ragged) -> Tensor:
        """The state after every event; (N, D)."""
        items = histories.pad(histories.values)  # padding stands behind, where a causal network never looks
        real = histories.pad(torch.ones_like(histories.values))
        states = self.network(input_ids=items, attention_mask=real).last_hidden_state
        return histories.flatten(states)

    def item_vectors(self) -> Tensor:
        """What a state is multiplied with; (V, D)."""
        return self.network.wte.weight
