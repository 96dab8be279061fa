"""What can be wrong with a token file: one root (:class:`TokenFileError`), one child a cause.

Every message names what is wrong and the byte offset where it was found.
"""

from __future__ import annotations

from tessella.errors import TokenFileError


class BadMagicError(TokenFileError):
    """The bytes are not a token file (or were damaged by a text-mode transfer)."""


class UnsupportedVersionError(TokenFileError):
    """The file needs a newer reader: an unknown major version, profile or mandatory chunk."""


class MalformedError(TokenFileError):
    """A field has a value that no writer may produce."""


class LimitError(TokenFileError):
    """The file claims more than the reader's limits allow."""


class ChecksumError(TokenFileError):
    """Stored and computed checksums differ: the bytes changed since they were written."""


class TruncatedError(TokenFileError):
    """The file ends before what its header announces."""


class UnknownModelError(TokenFileError):
    """The file's token space or prior is not among the models at hand."""


__all__ = [
    "BadMagicError",
    "ChecksumError",
    "LimitError",
    "MalformedError",
    "TruncatedError",
    "UnknownModelError",
    "UnsupportedVersionError",
]
