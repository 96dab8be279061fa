// Tables whose headers sort their rows: numbers as numbers, missing ones last.
(() => {
  "use strict";

  const key = (row, index, isNumber) => {
    const cell = row.cells[index];
    if (!isNumber) return cell.textContent;
    return cell.dataset.value ? Number(cell.dataset.value) : NaN;
  };

  const compare = (a, b, isNumber, sign) => {
    if (!isNumber) return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  };

  const sort = (table, header) => {
    const isNumber = header.dataset.kind === "number";
    // the first click brings the best to the top
    const first = header.dataset.better === "higher" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [key(row, header.cellIndex, isNumber), row]);
    keyed.sort(([a], [b]) => compare(a, b, isNumber, sign));
    body.append(...keyed.map(([, row]) => row));
    for (const cell of header.parentNode.cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
  };

  for (const table of document.querySelectorAll("table")) {
    for (const header of table.querySelectorAll("thead th[data-kind]")) {
      const title = header.querySelector(".title");
      const button = document.createElement("button");
      button.type = "button";
      title.replaceWith(button);
      button.append(title);
      button.addEventListener("click", () => sort(table, header));
    }
  }
})();
