"""Bottlenecks between an encoder and a decoder: one small file a method."""

from tessella.tokenizers.quantizers.base import Bottleneck, Quantized, Quantizer
from tessella.tokenizers.quantizers.bsq import BSQ
from tessella.tokenizers.quantizers.clustering_vq import ClusteringVQ
from tessella.tokenizers.quantizers.ema_vq import EMAVQ, EMAConfig
from tessella.tokenizers.quantizers.entropy import EntropyConfig
from tessella.tokenizers.quantizers.estimators import rotate_to, straight_through
from tessella.tokenizers.quantizers.fsq import FSQ
from tessella.tokenizers.quantizers.gaussian_kl import GaussianKL
from tessella.tokenizers.quantizers.gq import GQ
from tessella.tokenizers.quantizers.ibq import IBQ, IBQWeights
from tessella.tokenizers.quantizers.kmeans import kmeans
from tessella.tokenizers.quantizers.lfq import LFQ
from tessella.tokenizers.quantizers.nearest import nearest_codes
from tessella.tokenizers.quantizers.product import ProductQuantizer, SharedProductQuantizer
from tessella.tokenizers.quantizers.projection import ProjectedQuantizer
from tessella.tokenizers.quantizers.residual import (
    LevelDropout,
    ResidualQuantizer,
    residual_fsq,
    residual_lfq,
)
from tessella.tokenizers.quantizers.simvq import SimVQ
from tessella.tokenizers.quantizers.vq import VQ

__all__ = [
    "BSQ",
    "EMAVQ",
    "FSQ",
    "GQ",
    "IBQ",
    "LFQ",
    "VQ",
    "Bottleneck",
    "ClusteringVQ",
    "EMAConfig",
    "EntropyConfig",
    "GaussianKL",
    "IBQWeights",
    "LevelDropout",
    "ProductQuantizer",
    "ProjectedQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "SharedProductQuantizer",
    "SimVQ",
    "kmeans",
    "nearest_codes",
    "residual_fsq",
    "residual_lfq",
    "rotate_to",
    "straight_through",
]
