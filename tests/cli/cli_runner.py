"""What a run of the command line leaves behind."""

from __future__ import annotations

from collections.abc import Callable


class Result:
    """What a run left behind."""

    def __init__(self, code: int, stdout: bytes, stderr: str) -> None:
        self.code, self.data, self.stderr = code, stdout, stderr

    @property
    def stdout(self) -> str:
        return self.data.decode()


Run = Callable[..., Result]
