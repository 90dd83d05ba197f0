"""RecTools' and RecBole's SASRec, trained by their own API on a file for so many updates; for data_only.py.

Each fit yields the model, as ours, after each number of updates in `stops`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rsir.adapters.foreign import ForeignModel
from rsir.data.interactions import Interactions

SHAPE = {"factors": 64, "blocks": 1, "heads": 1, "length": 20}
RECTOOLS = {"dropout_rate": 0.3, "lr": 4e-3, "batch_size": 64}
RECBOLE = {"hidden_dropout_prob": 0.3, "learning_rate": 3e-3, "train_batch_size": 128}


def rectools_model(updates: int) -> Any:
    """RecTools' SASRec with its whole softmax.

    Its own way to that loss scores the catalogue after padding, too, at five times the cost; the same loss is
    computed after real events alone.
    """
    from pytorch_lightning import Trainer
    from rectools.models import SASRecModel
    from rectools.models.nn.transformers.lightning import TransformerLightningModule

    class RealEvents(TransformerLightningModule):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            items, real = self.torch_model.item_model.get_all_embeddings(), batch["y"] != 0
            states = self.torch_model.encode_sessions(batch, items)[real]
            return torch.nn.functional.cross_entropy(states @ items.T, batch["y"][real])

    quiet = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger")

    def trainer() -> Trainer:
        off = dict.fromkeys(quiet, False)
        return Trainer(max_steps=updates, accelerator="cpu", precision="bf16-mixed", **off)

    shape = {f"n_{name}": SHAPE[name] for name in ("factors", "blocks", "heads")}
    own = {"lightning_module_type": RealEvents, "get_trainer_func": trainer, "recommend_torch_device": "cpu"}
    return SASRecModel(**shape, session_max_len=SHAPE["length"], **RECTOOLS, **own)


def fit_rectools(data: Path, log: Interactions, stops: tuple[int, ...], seed: int) -> Iterator[ForeignModel]:
    """RecTools' SASRec after so many updates."""
    from pytorch_lightning import seed_everything

    from rsir.adapters.rectools import RecToolsModel, to_dataset

    seed_everything(seed)
    model, dataset = rectools_model(stops[0]), to_dataset(pl.read_parquet(data))
    for stop in stops:
        if model.is_fitted:
            model.fit_trainer.fit_loop.epoch_loop.max_steps = stop
        model.fit_partial(dataset, min_epochs=1, max_epochs=stop)  # an epoch has a step at least
        yield RecToolsModel(model, log.items)


def fit_recbole(data: Path, log: Interactions, stops: tuple[int, ...], seed: int) -> Iterator[ForeignModel]:
    """RecBole's SASRec with its whole softmax, on all events: none is held out a second time."""
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.utils import create_samplers, get_dataloader
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    from rsir.adapters.recbole import RecBoleModel

    torch.autograd.set_detect_anomaly(False)  # one of its models turns it on for all at import
    os.chdir(data.parent.parent)  # it writes logs where it stands
    asked = {
        "data_path": str(data.parent.parent),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "mode": "full", "group_by": "user"},
        "train_neg_sample_args": None,
        "hidden_size": SHAPE["factors"],
        "inner_size": SHAPE["factors"],
        "n_layers": SHAPE["blocks"],
        "n_heads": SHAPE["heads"],
        "MAX_ITEM_LIST_LENGTH": SHAPE["length"],
        "attn_dropout_prob": 0.0,
        **RECBOLE,
        "enable_amp": True,  # bfloat16, as above
        "epochs": 1,
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    config = Config(model="SASRec", dataset=data.stem, config_dict=asked)
    torch.set_num_threads(1)
    init_seed(seed, True)
    dataset = create_dataset(config)
    parts = dataset.build()
    samplers = create_samplers(config, dataset, parts)
    loader = get_dataloader(config, "train")(config, parts[0], samplers[0], shuffle=True)
    model = SASRec(config, parts[0])
    trainer, batches = Trainer(config, model), chain.from_iterable(repeat(loader))
    for start, stop in zip((0, *stops), stops, strict=False):
        trainer.fit(Updates(loader, islice(batches, stop - start)), verbose=False, saved=False)
        yield RecBoleModel(model, parts[0], log.items)


class Updates:
    """A loader of RecBole, one epoch of which is the batches given."""

    def __init__(self, loader: Any, batches: Iterator[Any]) -> None:
        self.loader, self.batches = loader, batches

    def __iter__(self) -> Iterator[Any]:
        return self.batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


FITS = {"rectools": fit_rectools, "recbole": fit_recbole}
