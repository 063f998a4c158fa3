"""Every error of this project, in one tree.

::

    LettingoError                 message: what, how much, and the next step
    ├── DataError                 the data is not what it says
    │   ├── FormatError           a file of an unknown, empty or unreadable format
    │   ├── AnswerError           a model's answer does not follow its schema
    │   └── LeakageError          a training row saw the future
    ├── ConfigError               two settings clash, or one is missing
    │   ├── MissingExtraError     an optional part is not installed
    │   └── RegistryError         the Feast registry does not match the feature repository
    ├── ModelError                a model directory cannot be read or does not fit
    │   └── EncoderMismatchError  vectors of one encoder met a view of another
    ├── DatabaseError             a database of this project does not answer, or a newer version made it
    │   └── LedgerError           the ledger of model calls or its stored answers cannot be read or written
    ├── ReleaseError              a release cannot change its state as asked
    └── ServingError              the online store or its server did not answer as it must
"""

from __future__ import annotations


class LettingoError(Exception):
    """Base of all errors below; the command line prints its message without a traceback and exits 2."""


class DataError(LettingoError):
    """The data is not what it says."""


class FormatError(DataError):
    """A file of an unknown, empty or unreadable format."""


class AnswerError(DataError):
    """A model's answer does not follow its schema."""


class LeakageError(DataError):
    """A training row saw the future."""


class ConfigError(LettingoError):
    """Two settings clash, or one is missing."""


class MissingExtraError(ConfigError):
    """An optional part is not installed."""

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(f"{part} needs the extra '{extra}': pip install 'lettingo_features[{extra}]'")


class RegistryError(ConfigError):
    """The Feast registry does not match the feature repository."""


class ModelError(LettingoError):
    """A model directory cannot be read or does not fit."""


class EncoderMismatchError(ModelError):
    """Vectors of one encoder met a view of another."""


class DatabaseError(LettingoError):
    """A database of this project does not answer, or a newer version made it."""


class LedgerError(DatabaseError):
    """The ledger of model calls or its stored answers cannot be read or written."""


class ReleaseError(LettingoError):
    """A release cannot change its state as asked."""


class ServingError(LettingoError):
    """The online store or its server did not answer as it must."""
