// Copyright: (c) 2026, keyfleet.hsm contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
(() => {
  const table = document.getElementById("hosts-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, text: row.textContent.toLowerCase(), state: row.dataset.state }));
  const search = document.getElementById("search");
  const state = document.getElementById("state");
  const count = document.getElementById("count");

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of rows) {
      const fits = (!state.value || one.state === state.value) && words.every((word) => one.text.includes(word));
      one.row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length} hosts`;
  };

  // What is not known stands last, whichever way the rest is ordered.
  const sort = (column, down) => {
    const values = new Map(rows.map(({ row }) => [row, row.cells[column].dataset.sort ?? row.cells[column].textContent.trim()]));
    const numbers = rows.every(({ row }) => values.get(row) === "" || !Number.isNaN(Number(values.get(row))));
    const compare = (one, other) => (numbers ? Number(one) - Number(other) : one.localeCompare(other, "en", { numeric: true }));
    rows.sort((a, b) => {
      const [one, other] = [values.get(a.row), values.get(b.row)];
      if (one === "" || other === "") return (one === "") - (other === "");
      return down ? compare(other, one) : compare(one, other);
    });
    body.append(...rows.map(({ row }) => row));
  };

  Array.from(table.tHead.rows[0].cells, (cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    cell.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down);
    });
    return button;
  });
  const order = document.getElementById("order");
  Array.from(table.tHead.rows[0].cells, (cell, column) => order.add(new Option(cell.textContent.trim(), String(column))));
  order.addEventListener("change", () => sort(Number(order.value), false));
  search.addEventListener("input", show);
  state.addEventListener("change", show);
  document.getElementById("tools").hidden = false;
  show();
})();
