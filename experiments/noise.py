"""Logs with random events among those of training: how robust self-improvement is (claim d).

    python experiments/noise.py ../shared/data/Toys_and_Games.txt --share 0.1 0.25 0.5 --out runs/noise

After each event but the last two of a user, which leave-one-out holds out, a random item follows with the
given chance, drawn from the whole catalogue. Written as LOG-noise10.txt and so on, one line a user.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

HELD_OUT = 2


def noisy(line: str, items: list[str], share: float, draw: random.Random) -> str:
    """A user and items, oldest first, with random items among those of training."""
    user, *events = line.split()
    training, held = events[:-HELD_OUT], events[-HELD_OUT:]
    made = [item for event in training for item in (event, *random_items(items, share, draw))]
    return " ".join((user, *made, *held))


def random_items(items: list[str], share: float, draw: random.Random) -> list[str]:
    """One random item with the given chance, else none."""
    return [draw.choice(items)] if draw.random() < share else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path, help="one line a user: user item item …")
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 0.25, 0.5])
    parser.add_argument("--out", type=Path, default=Path("runs/noise"))
    given = parser.parse_args()
    lines = given.log.read_text(encoding="utf-8").splitlines()
    items = sorted({item for line in lines for item in line.split()[1:]})
    given.out.mkdir(parents=True, exist_ok=True)
    for share in given.share:
        draw = random.Random(f"{given.log.stem} {share}")
        path = given.out / f"{given.log.stem}-noise{round(100 * share)}.txt"
        text = "\n".join(noisy(line, items, share, draw) for line in lines) + "\n"
        path.write_text(text, encoding="utf-8")
        print(path, sum(len(line.split()) - 1 for line in text.splitlines()), "events", flush=True)


if __name__ == "__main__":
    main()
