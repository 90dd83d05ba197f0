"""Compiled loop of `rsir.models.ranking`: each score is looked at once. Needs numba."""

from __future__ import annotations

import numpy as np

from rsir.compiled import lean

_EXPONENT = 0x7F800000
"""Of a float32; all of its bits are set where the number is not finite."""


@lean
def count(scores_BV, bits_BV, goal_B, higher_B, level_B):  # type: ignore[no-untyped-def]
    """Fill in how many scores of each row are higher than its goal, and how many others are level with it.

    Args:
        scores_BV: float32.
        bits_BV: the same memory as int32.
        goal_B: float32, one of the scores of each row.
        higher_B: int32, filled in.
        level_B: int32, filled in.

    Returns:
        How many scores are not finite.
    """
    wrong = 0
    for b in range(goal_B.size):
        row_V, row_bits_V, goal = scores_BV[b], bits_BV[b], goal_B[b]
        higher, reached, odd = np.int32(0), np.int32(0), np.int32(0)
        for v in range(row_V.size):
            higher += np.int32(row_V[v] > goal)
            reached += np.int32(row_V[v] >= goal)
            odd += np.int32((row_bits_V[v] & _EXPONENT) == _EXPONENT)
        higher_B[b], level_B[b] = higher, reached - higher - 1
        wrong += odd
    return wrong
