"""Rate and distortion of codecs side by side; what ``tessella bench codecs`` runs."""

from tessella.eval.codec_bench.bench import METRICS, CodecBench, bench_codecs, with_memory
from tessella.eval.codec_bench.comparing import DeltaRow, delta_rows, delta_text
from tessella.eval.codec_bench.page import write_bench_page
from tessella.eval.codec_bench.plot import plot
from tessella.eval.codec_bench.records import (
    RatePointRow,
    bench_records,
    rate_point_rows,
    write_deltas,
    write_points,
    write_records,
)

__all__ = [
    "METRICS",
    "CodecBench",
    "DeltaRow",
    "RatePointRow",
    "bench_codecs",
    "bench_records",
    "delta_rows",
    "delta_text",
    "plot",
    "rate_point_rows",
    "with_memory",
    "write_bench_page",
    "write_deltas",
    "write_points",
    "write_records",
]
