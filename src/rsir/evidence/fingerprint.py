"""A fingerprint of training data, so that what a model saw can be proved later."""

from __future__ import annotations

import hashlib

from rsir.data.sequences import Sequences


def data_fingerprint(data: Sequences) -> str:
    """SHA-256 of items, row lengths, users, rounds and sources, in order; little-endian 64-bit integers.

    >>> from rsir.ragged import Ragged
    >>> one, two = (Sequences.observed(Ragged.from_lists(rows), 9) for rows in ([[1, 2], [3]], [[1], [2, 3]]))
    >>> data_fingerprint(one) == data_fingerprint(two)
    False
    """
    digest = hashlib.sha256()
    for column in (data.events.values, data.events.lengths, data.user, data.round_index, data.source):
        digest.update(column.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()
