"""One picture through one contender: files, times and reconstructions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tessella.codecs.base import Codec
from tessella.codecs.size_search import SizeSearch
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.eval.evaluation.contenders import Contender
from tessella.eval.pixels import to_uint8
from tessella.eval.protocol import Protocol
from tessella.eval.results import Subject
from tessella.images import Pixels


@dataclass(frozen=True, slots=True)
class Coded:
    """A reconstruction and the file that it was decoded from.

    Args:
        subject: what made it.
        data: the file.
        pixels: uint8 ``(H, W, 3)``.
        encode_seconds: from pixels to the file.
        decode_seconds: from the file to pixels.
    """

    subject: Subject
    data: bytes
    pixels: Pixels
    encode_seconds: float
    decode_seconds: float


class Coder:
    """Codes pictures with a contender and its peers.

    Args:
        contender: qualities and peers.
        codec: of the contender.
        peers: those of the contender, in its order.
        protocol: says how a tokenizer's output is rounded.
    """

    def __init__(
        self, contender: Contender, codec: Codec, peers: list[Codec], protocol: Protocol
    ) -> None:
        self.contender, self.codec, self.peers = contender, codec, peers
        self.protocol = protocol

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """Code a picture at all qualities, then with the peers at the bytes of each.

        Args:
            pixels: uint8 ``(H, W, 3)``.

        Raises:
            PictureError: if a format cannot hold the picture.
        """
        start = time.perf_counter()
        prepared = self.codec.prepare(pixels)
        shared = time.perf_counter() - start
        sizes = []
        for subject in self.contender.subjects:
            quality = subject.quality
            if quality is not None:  # small pictures have fewer parts in some tokenizers
                quality = min(quality, prepared.qualities.highest)
            start = time.perf_counter()
            data = prepared.compress(quality)
            yield self._coded(subject, self.codec, data, shared + time.perf_counter() - start)
            sizes.append(len(data))
        searches = [SizeSearch(peer, pixels) for peer in self.peers]
        matched = iter(self.contender.peer_subjects)
        for size in sizes:
            for peer, search in zip(self.peers, searches, strict=True):
                found = search.at_most(size)
                start = time.perf_counter()
                peer.compress(
                    pixels, found.quality
                )  # once more, by itself: the search is not coding
                yield self._coded(next(matched), peer, found.data, time.perf_counter() - start)

    def decode(self, index: int, data: bytes) -> Pixels:
        """Decode the file of one of the contender's subjects, its own or a peer's."""
        own = len(self.contender.subjects)
        codec = self.codec if index < own else self.peers[(index - own) % len(self.peers)]
        return self._decoded(codec, data)

    def _coded(self, subject: Subject, codec: Codec, data: bytes, seconds: float) -> Coded:
        start = time.perf_counter()
        pixels = self._decoded(codec, data)
        return Coded(subject, data, pixels, seconds, time.perf_counter() - start)

    def _decoded(self, codec: Codec, data: bytes) -> Pixels:
        if isinstance(codec, TokenizerCodec) and self.protocol.rounding != "round":
            images = codec.tokenizer.decode(codec.unpack(data).tokens)
            pixels: Pixels = to_uint8(images, self.protocol.rounding)[0].permute(1, 2, 0).numpy()
            return pixels
        return codec.decompress(data, max_pixels=None)  # the picture was read: it is not too large


__all__ = ["Coded", "Coder"]
