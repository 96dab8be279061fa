"""The ``with`` statement for everything that has a ``close``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

Self = TypeVar("Self", bound="Closing")


class Closing(ABC):
    """Something that a ``with`` block closes at its end."""

    @abstractmethod
    def close(self) -> None:
        """Finish and let go of files."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


__all__ = ["Closing"]
