"use strict";
// The page works without this: tables and pictures are all there. Here are the switch of light and dark, copying,
// sorting, and the charts, which Vega draws in place of the pictures, as wide as the window and with their controls.
// Nothing is ever put into the page as markup, only as text: names come from files that are not ours to trust.
(() => {
  document.documentElement.classList.add("js");

  document.querySelector("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // a page opened from a file may not have the clipboard: then the text is selected, ready to be copied
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) return;
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }
  for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", () => copy(button));

  function sortBy(table, column, header) {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");  // what is not there comes last, either way
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
      return ascending ? order : -order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sortBy(table, column, header));
      header.append(button);
    });
  }

  // Data is stored a list a field, values that often repeat with how often they follow themselves.
  function rowwise({ rows, columns }) {
    const found = Array.from({ length: rows }, () => ({}));
    for (const [key, column] of Object.entries(columns)) {
      const values = column.runs ? column.runs.flatMap(([value, times]) => Array(times).fill(value)) : column;
      values.forEach((value, at) => { found[at][key] = value; });
    }
    return found;
  }
  const charts = JSON.parse(document.querySelector("#chart-data").textContent);
  // `ast` reads expressions where others would compile them, which the page's policy does not let anybody do.
  const options = { actions: false, ast: true, renderer: "svg", logLevel: 1, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  window.views = {};
  for (const [key, spec] of Object.entries(charts)) {
    for (const [name, table] of Object.entries(spec.datasets)) spec.datasets[name] = rowwise(table);
    vegaEmbed(document.querySelector(`#${key}-picture`), spec, options).then(({ view }) => { window.views[key] = view; });
  }
})();
