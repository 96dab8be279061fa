"""Streaming metrics as torchmetrics ``Metric`` classes; importing this imports torchmetrics."""

from tessella.eval.metrics.cmmd import CMMD
from tessella.eval.metrics.fidelity import MeanDISTS, MeanLPIPS, MeanMSSSIM, MeanPSNR, MeanSSIM
from tessella.eval.metrics.frechet import FeatureStatistics, FrechetDistance, frechet_distance
from tessella.eval.metrics.inception_score import InceptionScore
from tessella.eval.metrics.kernel import KernelDistance
from tessella.eval.metrics.neighbours import PrecisionRecall
from tessella.eval.metrics.rate import BitsPerPixel, TokenDensity
from tessella.eval.metrics.texture import CompressionRatio, GLCMScore
from tessella.eval.metrics.tokbench import FaceScores, WordScores
from tessella.eval.metrics.tokens import CodebookUse, TokenLanguage

__all__ = [
    "CMMD",
    "BitsPerPixel",
    "CodebookUse",
    "CompressionRatio",
    "FaceScores",
    "FeatureStatistics",
    "FrechetDistance",
    "GLCMScore",
    "InceptionScore",
    "KernelDistance",
    "MeanDISTS",
    "MeanLPIPS",
    "MeanMSSSIM",
    "MeanPSNR",
    "MeanSSIM",
    "PrecisionRecall",
    "TokenDensity",
    "TokenLanguage",
    "WordScores",
    "frechet_distance",
]
