"""Errors a user can meet. Each says what was given, which rule it broke, and what to do.

Every error inherits `RsirError` (so that a caller can catch the family) and the built-in
kind it is (so that a caller who knows nothing of rsir catches it too). The command line
prints an `RsirError` as one line and ends with exit code 2.
"""

from __future__ import annotations


class RsirError(Exception):
    """The family of errors caused by what rsir was given, never by its own bugs."""


class DataError(RsirError, ValueError):
    """The log, a column or an id cannot be used as given."""


class SplitError(DataError):
    """The data leaves nothing to train on or nothing to evaluate."""


class UnknownIdError(DataError, LookupError):
    """An external id never occurred in the data."""


class ConfigError(RsirError, ValueError):
    """A setting has an unknown name or an impossible value."""


class ModelError(RsirError, ValueError):
    """A model gave something unusable: a non-finite score, a wrong shape, weights that do not fit."""


class NotFittedError(RsirError, RuntimeError):
    """A model was asked for scores before it was trained; call `rsir.fit` first."""


class StoreError(RsirError, OSError):
    """A run directory cannot be written, is incomplete, or belongs to something else."""


class MissingExtraError(RsirError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""
