"""Engines that judge faces (F-Sim of TokBench, arXiv 2505.18142)."""

from tessella.eval.tokbench.face_engines.base import Embedding, FaceEngine, Located
from tessella.eval.tokbench.face_engines.factory import FaceEngineName, face_engine

__all__ = ["Embedding", "FaceEngine", "FaceEngineName", "Located", "face_engine"]
