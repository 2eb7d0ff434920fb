"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;

document.getElementById("theme").addEventListener("click", (event) => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  event.currentTarget.textContent = dark ? "Dark" : "Light";
});
if (matchMedia("(prefers-color-scheme: dark)").matches) document.getElementById("theme").textContent = "Light";

// Tables: a click on a heading sorts, numbers as numbers, empty cells last either way.
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  all("thead th", table).forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      const sign = falling ? -1 : 1;
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const difference = Number(a) - Number(b);
        return sign * (Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference);
      });
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      body.append(...rows.map(([, row]) => row));
    });
  });
}
for (const search of all("input[data-filters]")) {
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.getElementById(search.dataset.filters).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    document.getElementById(search.dataset.filters + "-count").textContent = `${shown} shown`;
  });
}
for (const box of all("input[data-hides]")) {
  box.addEventListener("change", () => document.getElementById(box.dataset.hides).classList.toggle("hide-constant", box.checked));
}

// Choices: of several drawings in one place, the chosen one.
for (const choice of all("[data-chooses]")) {
  choice.addEventListener("change", () => {
    for (const part of all(`[data-${choice.dataset.chooses}]`)) part.hidden = part.dataset[choice.dataset.chooses] !== choice.value;
  });
}

// A group's name in a legend shows its curves alone.
for (const button of all("button[data-solo]")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of all("button[data-solo]")) {
      other.setAttribute("aria-pressed", String(on && other.dataset.solo === button.dataset.solo));
    }
    document.body.classList.toggle("soloing", on);
    for (const series of all(".series")) series.classList.toggle("solo", on && series.dataset.group === button.dataset.solo);
  });
}

addEventListener("beforeprint", () => {
  root.dataset.screenTheme = root.dataset.theme ?? "";
  root.dataset.theme = "light";
  for (const details of all("details:not([open])")) details.open = true;
});
addEventListener("afterprint", () => {
  if (root.dataset.screenTheme) root.dataset.theme = root.dataset.screenTheme;
  else delete root.dataset.theme;
});
