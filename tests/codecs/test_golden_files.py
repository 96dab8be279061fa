"""Files of earlier versions decode to the same tokens for ever."""

from __future__ import annotations

import hashlib

import golden_files
import pytest
import torch

from tessella.codecs.chunks import KEPT
from tessella.codecs.token_codec import pack, unpack
from tessella.codecs.token_coding import PackOptions


@pytest.mark.parametrize("name", golden_files.NAMES)
def test_golden_file_decodes_to_its_tokens(name: str) -> None:
    golden = golden_files.load(name)
    assert hashlib.sha256(golden.data).hexdigest() == golden.sha256
    found = unpack(golden.data, golden.resolver)
    assert found.tokens == golden.tokens
    assert not found.is_truncated and found.is_verified


@pytest.mark.parametrize("name", golden_files.NAMES)
def test_golden_file_is_what_is_written_today(name: str) -> None:
    golden = golden_files.load(name)
    header = unpack(golden.data, golden.resolver).header
    space = golden.resolver(header.space_id, header.prior_id)
    options = PackOptions(
        profile=header.profile,
        split="parts" if len(header.lengths) > 1 else "single",
        id_bytes=len(header.space_id),
        has_digest=header.digest is not None,
        chunks=tuple(chunk for chunk in header.chunks if chunk[0] != KEPT),
    )
    assert pack(golden.tokens, space, options) == golden.data


def test_decoding_does_not_depend_on_threads() -> None:
    golden = golden_files.load("adaptive-bits")
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert unpack(golden.data, golden.resolver).tokens == golden.tokens
    finally:
        torch.set_num_threads(before)
