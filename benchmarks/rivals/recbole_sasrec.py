"""Seconds an epoch of RecBole's SASRec; called by `rsir bench training --rivals`.

    .venv/recbole/bin/python recbole_sasrec.py DATA.csv '{"dim": 128, "epochs": 1, "share": 1.0, ...}'

DATA.csv and the line of JSON are those of rectools_sasrec.py. RecBole itself holds out the last event of
each user, which is the validation event; it writes into the folder of DATA.csv.
"""

import functools
import json
import os
import resource
import sys
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import pandas as pd
import torch

torch.load = functools.partial(torch.load, weights_only=False)  # its own files, of older PyTorch's form

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402


class FirstBatches:
    """A share of the batches of a loader, taken in its own order."""

    def __init__(self, loader, share):
        self.loader, self.count = loader, max(1, round(share * len(loader)))

    def __iter__(self):
        return islice(iter(self.loader), self.count)

    def __len__(self):
        return self.count

    def __getattr__(self, name):
        return getattr(self.loader, name)


def write_interactions(log, folder):
    """RecBole's form: a folder of the data set's name with typed columns separated by tabs."""
    place = folder / "log"
    place.mkdir(exist_ok=True)
    form = log.rename(columns={"user": "user_id:token", "item": "item_id:token", "place": "timestamp:float"})
    form.drop(columns="part").to_csv(place / "log.inter", sep="\t", index=False)


def settings(asked, folder):
    return {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "mode": "full", "group_by": "user"},
        "metrics": ["NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "hidden_size": asked["dim"],
        "inner_size": asked["dim"],
        "n_layers": asked["blocks"],
        "n_heads": asked["heads"],
        "MAX_ITEM_LIST_LENGTH": asked["max_length"],
        "hidden_dropout_prob": asked["dropout"],
        "attn_dropout_prob": asked["dropout"],
        "learning_rate": asked["learning_rate"],
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "checkpoint_dir": str(folder / "saved"),
        "worker": 0,
    }


def main():
    asked = json.loads(sys.argv[2])
    folder = Path(sys.argv[1]).resolve().parent
    write_interactions(pd.read_csv(sys.argv[1]), folder)
    os.chdir(folder)  # it writes logs where it stands
    sys.argv = sys.argv[:1]  # it reads the command line, too
    config = Config(model="SASRec", dataset="log", config_dict=settings(asked, folder))
    torch.set_num_threads(asked["threads"])
    init_seed(0, True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model = SASRec(config, train.dataset).to(config["device"])
    trainer = Trainer(config, model)
    epochs, ndcg = [], None
    for number in range(asked["epochs"]):
        start = time.perf_counter(), time.process_time()
        trainer._train_epoch(FirstBatches(train, asked["share"]), number)
        epochs.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    start = time.perf_counter()
    if asked["share"] == 1.0:
        _, figures = trainer._valid_epoch(valid)
        ndcg = float(figures["ndcg@10"])
    print(
        json.dumps(
            {
                "library": f"RecBole {version('recbole')}",
                "seconds": [wall / asked["share"] for wall, _ in epochs],
                "cpu_seconds": [processor / asked["share"] for _, processor in epochs],
                "validation_seconds": time.perf_counter() - start if ndcg is not None else None,
                "ndcg@10": ndcg,
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
