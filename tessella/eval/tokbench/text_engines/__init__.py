"""Engines that read words (T-ACC and T-NED of TokBench, arXiv 2505.18142)."""

from tessella.eval.tokbench.text_engines.base import Reading, TextEngine
from tessella.eval.tokbench.text_engines.factory import TextEngineName, text_engine

__all__ = ["Reading", "TextEngine", "TextEngineName", "text_engine"]
