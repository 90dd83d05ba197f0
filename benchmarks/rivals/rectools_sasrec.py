"""Seconds an epoch of RecTools' SASRec; called by `rsir bench training --rivals`.

    .venv/rectools/bin/python rectools_sasrec.py DATA.csv '{"dim": 128, "epochs": 1, "share": 1.0, ...}'

DATA.csv has user, item, place and part (train or valid), the events of a user in their order. Prints one
line of JSON: seconds and processor seconds of each epoch, and NDCG@10 on the validation items over the
whole catalogue.
"""

import json
import logging
import math
import resource
import sys
import time
import warnings
from importlib.metadata import version

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


class Clock(Callback):
    """Wall and processor seconds of every epoch; kept by the class, since RecTools copies the trainer."""

    epochs = []

    def on_train_epoch_start(self, trainer, module):
        self.start = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer, module):
        Clock.epochs.append((time.perf_counter() - self.start[0], time.process_time() - self.start[1]))


def ndcg_at_10(model, dataset, held_out):
    """The mean over all users; the first of a list has rank 1."""
    lists = model.recommend(users=held_out[Columns.User].tolist(), dataset=dataset, k=10, filter_viewed=True)
    found = lists.merge(held_out, on=[Columns.User, Columns.Item])
    return sum(1 / math.log2(1 + rank) for rank in found[Columns.Rank]) / len(held_out)


def main():
    asked = json.loads(sys.argv[2])
    torch.set_num_threads(asked["threads"])
    seed_everything(0)
    log = pd.read_csv(sys.argv[1])
    events = pd.DataFrame(
        {
            Columns.User: log["user"],
            Columns.Item: log["item"],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(log["place"], unit="s"),
        }
    )
    train = log["part"] == "train"
    dataset = Dataset.construct(events[train])
    known = events[~train & events[Columns.Item].isin(events[train][Columns.Item])]

    def trainer():
        return Trainer(
            max_epochs=asked["epochs"],
            limit_train_batches=asked["share"],
            callbacks=[Clock()],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(
        n_factors=asked["dim"],
        n_blocks=asked["blocks"],
        n_heads=asked["heads"],
        session_max_len=asked["max_length"],
        dropout_rate=asked["dropout"],
        loss="softmax",
        lr=asked["learning_rate"],
        batch_size=asked["batch_size"],
        get_trainer_func=trainer,
    )
    model.fit(dataset)
    judged = asked["share"] == 1.0 and len(known)
    ndcg = ndcg_at_10(model, dataset, known[[Columns.User, Columns.Item]]) if judged else None
    print(
        json.dumps(
            {
                "library": f"RecTools {version('rectools')}",
                "seconds": [wall / asked["share"] for wall, _ in Clock.epochs],
                "cpu_seconds": [processor / asked["share"] for _, processor in Clock.epochs],
                "ndcg@10": None if ndcg is None else ndcg * len(known) / int((~train).sum()),
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
