"""Writing files so that a crash leaves the old state or the new one, never half of either."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk; not atomic by itself."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file: write aside, flush to the disk, rename."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_durably(aside, content)
    aside.replace(path)
    flush_folder(path.parent)


def replace_folder(new: Path, path: Path) -> None:
    """Put the complete folder ``new`` in the place of ``path``, which may exist."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    flush_folder(path.parent)
    if old.exists():
        remove_folder(old)


def settle_folder(folder: Path, *, like: Path) -> None:
    """Flush a folder's files to the disk and give them the permissions of one of them.

    Some libraries make their files readable by the owner only, which is wrong for weights that
    others are to load.
    """
    mode = like.stat().st_mode
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
            continue
        path.chmod(mode)
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    flush_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder of files and folders."""
    import shutil

    shutil.rmtree(folder)


def flush_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where the system can do that."""
    if os.name != "posix":  # Windows cannot open folders; it orders renames by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = [
    "flush_folder",
    "remove_folder",
    "replace_file",
    "replace_folder",
    "settle_folder",
    "write_durably",
]
