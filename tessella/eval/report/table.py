"""A table that a click on a header sorts; it can be read without JavaScript, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessella.errors import ConfigError
from tessella.eval.measures import Better, measure
from tessella.eval.report.parts import render

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Args:
        title: its header.
        better: which direction; the best value is marked. Empty for none.
        is_number: sorted by value and set to the right; else by text.
    """

    title: str
    better: Better = ""
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Args:
        text: as written.
        value: what a number is sorted by; None for missing, which is always sorted last.
        hint: shown when pointed at.
    """

    text: str
    value: float | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Args:
        columns: of every row.
        rows: their cells.
        caption: above it; empty for none.
        foot: rows that are not sorted and never best, such as a bound.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    foot: Sequence[Sequence[Cell]] = ()


def metric_table(
    rows: Sequence[tuple[str, Mapping[str, float | None]]],
    *,
    names: Sequence[str],
    caption: str = "",
    foot: Sequence[tuple[str, Mapping[str, float | None]]] = (),
    notes: Mapping[tuple[str, str], str] | None = None,
) -> Table:
    """Return a table of metrics, one row a label.

    Args:
        rows: labels, and values by metric.
        names: of the metrics, one column each; titles, digits and directions are those of
            :func:`tessella.eval.measures.measure`.
        caption: above it.
        foot: rows below that do not compete.
        notes: hints by label and metric, such as why a value is missing.
    """
    notes = notes or {}
    columns = [Column("subject", is_number=False)]
    columns += [Column(measure(name).title, measure(name).better) for name in names]

    def cells(label: str, values: Mapping[str, float | None]) -> list[Cell]:
        found = [Cell(label)]
        for name in names:
            value = values.get(name)
            found.append(Cell(measure(name).text(value, "–"), value, notes.get((label, name), "")))
        return found

    return Table(
        columns,
        [cells(*row) for row in rows],
        caption,
        [cells(*row) for row in foot],
    )


def best_rows(table: Table) -> list[set[int]]:
    """Return, for each column, the rows with its best value; none where there is nothing to win."""
    found: list[set[int]] = []
    for i, column in enumerate(table.columns):
        values = {j: v for j, row in enumerate(table.rows) if (v := row[i].value) is not None}
        if not column.better or len(values) < 2:
            found.append(set())
            continue
        best = max(values.values()) if column.better == "higher" else min(values.values())
        found.append({j for j, value in values.items() if value == best})
    return found


def table_html(table: Table) -> Markup:
    """Return a table.

    Raises:
        ConfigError: if a row has not as many cells as there are columns.
    """
    for row in [*table.rows, *table.foot]:
        if len(row) != len(table.columns):
            raise ConfigError(
                f"a row of {len(row)} cells given; expected {len(table.columns)}, one a column"
            )
    return render("table.html.j2", table=table, best=best_rows(table))


__all__ = ["Cell", "Column", "Table", "best_rows", "metric_table", "table_html"]
