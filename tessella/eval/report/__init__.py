"""A report as one HTML file, and its parts: tables, charts, bars and picture sliders."""

from tessella.eval.report.bars import Bars, bars_html
from tessella.eval.report.charts import Chart, Panel, Point, Series, chart_html
from tessella.eval.report.page import write_report
from tessella.eval.report.parts import Fact, Section, write_page
from tessella.eval.report.shown import ShownPicture
from tessella.eval.report.slider import PictureStore, Slide, slider_html
from tessella.eval.report.table import Cell, Column, Table, metric_table, table_html

__all__ = [
    "Bars",
    "Cell",
    "Chart",
    "Column",
    "Fact",
    "Panel",
    "PictureStore",
    "Point",
    "Section",
    "Series",
    "ShownPicture",
    "Slide",
    "Table",
    "bars_html",
    "chart_html",
    "metric_table",
    "slider_html",
    "table_html",
    "write_page",
    "write_report",
]
