"""Shards on disk: append pictures, read any of them, recover what a killed writer left.

The bytes are described in :mod:`tessella.codecs.shard_format`. Records are only ever appended;
closing a writer adds the index, and appending to a closed shard replaces the index, never a record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from tessella.codecs.byte_reader import Bytes
from tessella.codecs.closing import Closing
from tessella.codecs.container_errors import MalformedError
from tessella.codecs.limits import DEFAULT_LIMITS, Limits
from tessella.codecs.shard_format import (
    INDEX_MARK,
    INDEX_STRIDE,
    ShardHeader,
    ShardRecord,
    read_header,
    read_index,
    read_record,
    read_segments,
    write_header,
    write_index,
    write_record,
)
from tessella.codecs.stored_layout import StoredLayout
from tessella.errors import ConfigError, TokenFileError


class ShardReader(Closing):
    """Random access to the pictures of a shard.

    Args:
        data: the whole shard: bytes, or a memory map of the file.
        limits: what to accept.
        recover: scan all records instead of trusting the index, and stop at the first that is
            damaged or incomplete.

    Raises:
        TokenFileError: if header or index are damaged.
    """

    def __init__(
        self, data: Bytes, *, limits: Limits = DEFAULT_LIMITS, recover: bool = False
    ) -> None:
        self._data = data
        self._limits = limits
        self.header = read_header(data, limits)
        if recover:
            self._offsets, self._count, self.stop = self._scan()
        else:
            self._offsets, self._count, self.stop = read_index(data, self.header)

    @classmethod
    def open(
        cls, path: Path | str, *, limits: Limits = DEFAULT_LIMITS, recover: bool = False
    ) -> ShardReader:
        """Map a shard into memory; nothing but what is asked for is read from the disk.

        Raises:
            TokenFileError: if the file cannot be read or is no shard.
        """
        try:
            with Path(path).open("rb") as file:
                data: Bytes = mmap(file.fileno(), 0, access=ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise TokenFileError(f"{path} cannot be read as a shard: {error}") from error
        return cls(data, limits=limits, recover=recover)

    def close(self) -> None:
        """Unmap the file."""
        if isinstance(self._data, mmap):
            self._data.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ShardRecord]:
        position = self.header.size
        for _ in range(self._count):
            record = read_record(self._data, position, self.header, self._limits)
            yield record
            position = record.stop

    def record(self, place: int | str) -> ShardRecord:
        """Return a record by its number or its key.

        Raises:
            KeyError: if there is none.
        """
        if isinstance(place, str):
            return read_record(self._data, self._by_key[place], self.header, self._limits)
        if not 0 <= place < self._count:
            raise KeyError(place)
        position = self._offsets[place // INDEX_STRIDE]
        for _ in range(place % INDEX_STRIDE):
            position = read_record(self._data, position, self.header, self._limits).stop
        return read_record(self._data, position, self.header, self._limits)

    def segments(self, record: ShardRecord) -> list[bytes]:
        """Return the verified segments of a record."""
        return read_segments(self._data, record)

    def keys(self) -> list[str]:
        """Return all keys in the order of writing."""
        return list(self._by_key)

    @cached_property
    def _by_key(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for record in self:
            if record.key in found:
                raise MalformedError(f"a second record {record.key!r} at byte {record.start}")
            found[record.key] = record.start
        return found

    def _scan(self) -> tuple[list[int], int, int]:
        offsets = []
        count = 0
        position = self.header.size
        while position < len(self._data) and self._data[position] != INDEX_MARK:
            try:
                record = read_record(self._data, position, self.header, self._limits)
                read_segments(self._data, record)
            except TokenFileError:
                break
            if count % INDEX_STRIDE == 0:
                offsets.append(position)
            count += 1
            position = record.stop
        return offsets, count, position


class ShardWriter(Closing):
    """Appends pictures to a shard; use it in a ``with`` block or call :meth:`close`.

    Args:
        path: the shard; created with ``header``, or an existing one to append to. What a killed
            writer left behind its last whole record is cut off.
        header: of a new shard; of an existing one it must say the same, or be None.
        limits: what to accept of an existing shard.

    Raises:
        ConfigError: if an existing shard has another header, or a new one none.
        TokenFileError: if an existing file is no shard.
    """

    def __init__(
        self,
        path: Path | str,
        header: ShardHeader | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._path = Path(path)
        self._offsets: list[int] = []
        self._keys: set[str] = set()
        self._file: BinaryIO
        if self._path.exists():
            self.header = self._reopen(header, limits)
        elif header is None:
            raise ConfigError(f"{path} does not exist; give a header to create it")
        else:
            start = write_header(header)
            self.header = read_header(start, limits)
            self._file = self._path.open("xb")
            self._file.write(start)
            self._position = len(start)

    def _reopen(self, header: ShardHeader | None, limits: Limits) -> ShardHeader:
        try:
            reader = ShardReader.open(self._path, limits=limits)
        except TokenFileError:  # a killed writer left no index
            reader = ShardReader.open(self._path, limits=limits, recover=True)
        found = reader.header
        if header is not None and write_header(header) != write_header(found):
            raise ConfigError(
                f"{self._path} holds pictures under {found}; {header} given: use another shard "
                "for another token space, prior or default size"
            )
        for i, record in enumerate(reader):
            self._keys.add(record.key)
            if i % INDEX_STRIDE == 0:
                self._offsets.append(record.start)
        self._position = reader.stop
        reader.close()
        self._file = self._path.open("r+b")
        self._file.truncate(self._position)
        self._file.seek(self._position)
        return found

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(
        self,
        key: str,
        segments: Sequence[bytes],
        *,
        size: tuple[int, int] | None = None,
        layout: StoredLayout | None = None,
    ) -> int:
        """Append a picture.

        Args:
            key: its name, unique in the shard.
            segments: its coded tokens.
            size: ``(width, height)`` in pixels; None for the shard's default.
            layout: only if it is neither the shard's default nor the model's own.

        Returns:
            The number of bytes that were added.

        Raises:
            ConfigError: if the key is already there.
        """
        if key in self._keys:
            raise ConfigError(f"key {key!r} given; {self._path} already holds a picture of it")
        default = (self.header.width, self.header.height)
        data = write_record(self.header, key, size or default, layout, segments)
        self._file.write(data)
        if len(self._keys) % INDEX_STRIDE == 0:
            self._offsets.append(self._position)
        self._keys.add(key)
        self._position += len(data)
        return len(data)

    def flush(self) -> None:
        """Put all records so far on the disk, where recovery finds them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write the index and close the file."""
        if self._file.closed:
            return
        self._file.write(write_index(self._offsets, len(self._keys), self._position))
        self.flush()
        self._file.close()


__all__ = ["ShardReader", "ShardWriter"]
