"""The whole method on one page: a recommender that writes its own training data and is judged on it.

RSIR (arXiv 2602.15659) in plain Python and a small GRU, for reading rather than for speed; a test
holds the library equal to `generate_rollout`. Run it: `python examples/minimal_rsir.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rsir.rng import uniform_scalar

NUM_ITEMS, NUM_USERS = 80, 300


def simulate(seed: int) -> list[list[int]]:
    """Users who walk around a circle of items, mostly one or two steps ahead, sometimes anywhere."""
    users = []
    for user in range(NUM_USERS):
        items = [int(uniform_scalar(seed, "start", user) * NUM_ITEMS)]
        for step in range(4 + user % 5):
            draw = uniform_scalar(seed, "step", user, step)
            ahead = 1 if draw < 0.5 else 2 if draw < 0.8 else int(draw * 1000) % NUM_ITEMS
            items.append((items[-1] + ahead) % NUM_ITEMS)
        users.append(items)
    return users


class Model(nn.Module):
    """A GRU; the score of an item is the inner product of the state with the item's vector."""

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.Embedding(NUM_ITEMS + 1, 32, padding_idx=NUM_ITEMS)
        self.gru = nn.GRU(32, 32, batch_first=True)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Scores of all items after every event."""
        return self.gru(self.item(items))[0] @ self.item.weight[:NUM_ITEMS].T


def train(sequences: list[list[int]], seed: int) -> Callable[[list[int]], list[float]]:
    """Step 1: next-item prediction. Returns the scores of all items after a prefix."""
    torch.manual_seed(seed)
    model = Model()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    rows = [torch.tensor(sequence) for sequence in sequences if len(sequence) > 1]
    items = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NUM_ITEMS)
    for _ in range(60):
        scores, targets = model(items[:, :-1]), items[:, 1:]
        loss = cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=NUM_ITEMS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def score(prefix: list[int]) -> list[float]:
        return model(torch.tensor([prefix]))[0, -1].tolist()

    return score


def generate_rollout(
    score: Callable[[list[int]], list[float]],
    source: list[int],
    keys: tuple[int, int, int, int],  # seed, round, row of the source, number of the rollout
    p: float = 0.5,
    tau: int = 10,
    max_length: int = 50,
) -> list[int]:
    """Steps 2 and 3: one rollout from a source, judged at every step."""
    seed, round_index, row, number = keys
    x = [source[0]]
    while remaining := set(source) - set(x):
        scores = score(x)
        unseen = sorted(set(range(len(scores))) - set(x), key=lambda item: (-scores[item], item))
        if not remaining & set(unseen[:tau]):  # fidelity: some own item must rank among the first τ
            return x[:-1] or x  # the item that broke fidelity is dropped, never the first one
        if len(x) == max_length:
            break
        own = uniform_scalar(seed, "pool", round_index, row, number, len(x) - 1) < p
        x.append(next(item for item in unseen if not own or item in remaining))
    return x


def evaluate(score: Callable[[list[int]], list[float]], users: list[list[int]]) -> float:
    """Recall@10 of the last item, ranked among the whole catalogue without the history."""
    hits = 0
    for *history, target in users:
        scores = score(history)
        rivals = (scores[item] for item in set(range(NUM_ITEMS)) - set(history) - {target})
        hits += target not in history and sum(rival >= scores[target] for rival in rivals) < 10
    return hits / len(users)


def main() -> None:
    """The loop: train, generate, judge, admit, and again."""
    seed, users = 0, simulate(seed=0)
    observed = [user[:-2] for user in users]
    data = list(observed)
    for round_index in range(3):
        score = train(data, seed)
        recall = evaluate(score, [user[:-1] for user in users])
        print(f"round {round_index}: {len(data)} sequences, validation Recall@10 {recall:.3f}")
        made = [
            generate_rollout(score, source, (seed, round_index + 1, row, number))
            for row, source in enumerate(observed)
            for number in range(3)
        ]
        known = {tuple(sequence) for sequence in data}
        data += [list(new) for new in dict.fromkeys(map(tuple, made)) if len(new) >= 3 and new not in known]
    print(f"test Recall@10 of the last model: {evaluate(score, users):.3f}")


if __name__ == "__main__":
    main()
