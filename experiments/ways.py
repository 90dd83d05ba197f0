"""Other ways to learn from one's own generations than whole rollouts, each against the default's.

    python experiments/ways.py LOG --plan earlier --peers sasrec.0 sasrec.1 sasrec.2 --successors sasrec.0

The plan names the way; bases, start, updates and control are those of peers.py, and so are its options and
where its results go, under the plan's name with "way: " before it. Validation alone is read.
"""

from __future__ import annotations

from argparse import Namespace

import ways_to_choose as choose
import ways_to_learn as learn
import ways_to_write as write
from peers import Peers, arguments, search

WAYS: dict[str, type[Peers]] = {
    "default": Peers,
    "inserted": write.Inserted,
    "rollouts and inserted": write.InsertedToo,
    "earlier": write.Earlier,
    "rollouts and earlier": write.EarlierToo,
    "rollouts and one earlier": write.OneEarlierToo,
    "rollouts and six earlier": write.SixEarlierToo,
    "rollouts and earlier for all": write.AllEarlierToo,
    "random half": choose.Half,
    "half unknown": choose.Unknown,
    "half hard": choose.Hard,
    "half real": choose.Real,
    "refused": learn.Refused,
    "observed last": learn.Last,
    "completed": write.Completed,
    "half short": choose.Short,
    "threshold by user": choose.Calibrated,
    "confident": learn.Confident,
    "taught": learn.Taught,
    "taught longer": learn.Taught,
    "taught wide": learn.Taught,
    "taught wide, nine": learn.Taught,
    "taught wide alone": learn.TaughtAlone,
}


def main() -> None:
    given: Namespace = arguments(__doc__).parse_args()
    way = WAYS[given.plan]
    given.plan = f"way: {given.plan}"
    search(given, way(given))


if __name__ == "__main__":
    main()
