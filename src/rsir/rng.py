"""Randomness keyed by identity: the same draw for any batch size, order, device or worker.

A draw is a pure function of its keys (seed, round, source, rollout, step …), never of a
generator's state. The function is the finaliser of SplitMix64 (Steele, Lea & Flood,
OOPSLA 2014) applied to the keys one after another; integer arithmetic modulo 2^64 is the same in
PyTorch on any device and in plain Python, so a slow oracle can reproduce every draw.

>>> import torch
>>> uniform(7, torch.tensor([0, 1]), 3).tolist() == [uniform_scalar(7, 0, 3), uniform_scalar(7, 1, 3)]
True
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB

Key = int | str | Tensor


def _signed(value: int) -> int:
    """The two's-complement view of an unsigned 64-bit integer."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _key(key: int | str) -> int:
    """A whole number for a key; names are hashed by CRC-32 so that they can be keys."""
    return zlib.crc32(key.encode()) if isinstance(key, str) else key


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _logical_shift(x, 30)) * _signed(_MIX1)
    x = (x ^ _logical_shift(x, 27)) * _signed(_MIX2)
    return x ^ _logical_shift(x, 31)


def _mix_scalar(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX2) & _MASK
    return x ^ (x >> 31)


def hash_scalar(*keys: int | str) -> int:
    """An unsigned 64-bit hash of the keys, in plain Python."""
    state = 0
    for key in keys:
        state = _mix_scalar((state + _GAMMA + _key(key)) & _MASK)
    return state


def hash_tensor(*keys: Key) -> Tensor:
    """The same hash for tensors of keys (int64, broadcast together); int64 bit patterns.

    Raises:
        TypeError: if no key is a tensor.
    """
    state: int | Tensor = 0
    for key in keys:
        if isinstance(key, Tensor) or isinstance(state, Tensor):
            other = key.to(torch.int64) if isinstance(key, Tensor) else _signed(_key(key))
            base = state if isinstance(state, Tensor) else _signed(state)
            state = _mix(base + other + _signed(_GAMMA))  # type: ignore[arg-type]
        else:
            state = _mix_scalar((state + _GAMMA + _key(key)) & _MASK)
    if not isinstance(state, Tensor):
        raise TypeError("hash_tensor needs at least one tensor key; use hash_scalar")
    return state


def uniform(*keys: Key) -> Tensor:
    """Uniform draws in [0, 1) on a grid of 2^-53, one for each broadcast key; float64."""
    return _logical_shift(hash_tensor(*keys), 11).to(torch.float64) * 2.0**-53


def uniform_scalar(*keys: int | str) -> float:
    """One uniform draw in [0, 1), in plain Python; equal to `uniform` for the same keys."""
    return (hash_scalar(*keys) >> 11) * 2.0**-53


def permutation(size: int, *keys: int | str, device: torch.device | str = "cpu") -> Tensor:
    """A random order of `range(size)` fixed by the keys; int64 (size,)."""
    draws = hash_tensor(hash_scalar(*keys), torch.arange(size, device=device))
    return torch.argsort(draws, stable=True)


def generator_seed(*keys: int | str) -> int:
    """A seed for a library's own generator, derived from the keys; in [0, 2^63)."""
    return hash_scalar(*keys) >> 1
