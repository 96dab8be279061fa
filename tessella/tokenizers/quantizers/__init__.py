"""Bottlenecks between an encoder and a decoder: one small file a method."""

from tessella.tokenizers.quantizers.base import Bottleneck, Quantized, Quantizer
from tessella.tokenizers.quantizers.entropy import EntropyConfig
from tessella.tokenizers.quantizers.gq import GQ

__all__ = ["GQ", "Bottleneck", "EntropyConfig", "Quantized", "Quantizer"]
