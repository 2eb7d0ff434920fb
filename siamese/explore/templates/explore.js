"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const root = document.documentElement;
const count = data.ids.length;

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const nearest = new Int32Array(bytes(data.nearest));
const cosines = new Int16Array(bytes(data.cosines));
const planes = Object.fromEntries(Object.entries(data.planes).map(([name, text]) => [name, new Float32Array(bytes(text))]));
const wrong = new Set(data.wrong);
const place = new Map(data.ids.map((id, i) => [id, i]));
const className = (i) => (data.labels[i] < 0 ? "no class" : data.classNames[data.labels[i]]);

// Thumbnails: cut from sheets of many, which are decoded when one of theirs is first wanted.
const sheets = data.sheets.map(() => null);
function thumbnail(i, size) {
  const canvas = Object.assign(make("canvas", "", "thumb"), { width: data.edge, height: data.edge });
  canvas.style.width = canvas.style.height = `${size}px`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", data.ids[i]);
  const whole = data.columns * data.columns;
  const number = Math.floor(i / whole);
  const at = i % whole;
  sheets[number] ??= Object.assign(new Image(), { src: data.sheets[number] });
  sheets[number].decode().then(() => {
    const [x, y] = [at % data.columns, Math.floor(at / data.columns)].map((n) => n * data.edge);
    canvas.getContext("2d").drawImage(sheets[number], x, y, data.edge, data.edge, 0, 0, data.edge, data.edge);
  });
  return canvas;
}
const pictured = (i, size) => (data.edge ? [thumbnail(i, size)] : []);

// What is shown, and in which colours and shapes: more classes than colours go on with other shapes.
const SHAPES = ["circle", "square", "diamond", "triangle-up", "cross", "star"];
const variable = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const chosenOf = (id) => by(id)?.value ?? "";
let shown = [];
let selected = null;
const KIND = document.createElement("canvas").getContext("webgl") ? "scattergl" : "scatter"; // slower, but everywhere

function groups() {
  const how = chosenOf("colour");
  const hue = (i) => variable(`--c${i % data.hues}`);
  if (how === "right") {
    return [
      { name: "right", colour: variable("--c0"), shape: "circle", has: (i) => !wrong.has(i) },
      { name: "wrong", colour: variable("--c6"), shape: "cross", has: (i) => wrong.has(i) },
    ];
  }
  if (how === "part") {
    return data.partNames.map((name, p) => ({ name, colour: hue(p), shape: SHAPES[p], has: (i) => data.parts[i] === p }));
  }
  const known = data.classNames.map((name, c) => {
    const shape = SHAPES[Math.floor(c / data.hues) % SHAPES.length];
    return { name, colour: hue(c), shape, has: (i) => data.labels[i] === c };
  });
  return [...known, { name: "no class", colour: variable("--muted"), shape: "circle", has: (i) => data.labels[i] < 0 }];
}

const MARKS = {
  circle: "M5 1a4 4 0 1 0 .01 0z", square: "M1.5 1.5h7v7h-7z", diamond: "M5 .5 9.5 5 5 9.5.5 5z",
  "triangle-up": "M5 1 9.5 9h-9z", cross: "M3.5 1h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
  star: "M5 0 6.5 3.6 10 3.8 7.2 6.2 8.1 10 5 7.9 1.9 10 2.8 6.2 0 3.8 3.5 3.6z",
};
function legend(found) {
  const most = 30;
  const items = found.slice(0, most).map((group) => {
    const item = make("li", "");
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("width", 10);
    svg.setAttribute("height", 10);
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", MARKS[group.shape]);
    path.style.fill = group.colour;
    svg.append(path);
    item.append(svg, `${group.name} (${group.members.length.toLocaleString("en")})`);
    return item;
  });
  if (found.length > most) items.push(make("li", `and ${found.length - most} more`, "quiet"));
  by("legend").replaceChildren(...items);
}

function ring(members, name, colour, size) {
  const points = planes[chosenOf("plane") || Object.keys(planes)[0]];
  const marker = { symbol: "circle-open", size, color: colour, line: { width: 2.5 } };
  const x = members.map((i) => points[2 * i]);
  const y = members.map((i) => points[2 * i + 1]);
  return { type: KIND, mode: "markers", x, y, name, marker, hoverinfo: "skip" };
}
const neighboursOf = (i) => [...nearest.subarray(i * data.k, (i + 1) * data.k)].filter((j) => j >= 0);

function draw(keep = true) {
  const points = planes[chosenOf("plane") || Object.keys(planes)[0]];
  const [ofClass, ofPart] = [chosenOf("class"), chosenOf("part")];
  shown = data.ids.map((_, i) => i).filter((i) =>
    (ofClass === "" || data.labels[i] === Number(ofClass)) && (ofPart === "" || data.parts[i] === Number(ofPart)));
  const found = groups().map((group) => ({ ...group, members: shown.filter(group.has) })).filter((g) => g.members.length);
  legend(found);
  by("count").textContent = `${shown.length.toLocaleString("en")} of ${count.toLocaleString("en")} images`;
  const traces = found.map(({ name, colour, shape, members }) => ({
    type: KIND, mode: "markers", name, hoverinfo: "none", customdata: members,
    x: members.map((i) => points[2 * i]), y: members.map((i) => points[2 * i + 1]),
    marker: { color: colour, symbol: shape, size: count > 4000 ? 5 : 7, opacity: 0.75 },
  }));
  if (selected !== null) traces.push(ring(neighboursOf(selected), "neighbours", variable("--muted"), 12), ring([selected], "chosen", variable("--ink"), 18));
  const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
  const layout = {
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, dragmode: "pan", hovermode: "closest", uirevision: keep ? "kept" : Math.random(),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: { ...axis, scaleanchor: "x" },
  };
  return Plotly.react("map", traces, layout, { displayModeBar: false, responsive: true, scrollZoom: true, doubleClick: "reset" });
}

function button(i, children, name = "") {
  const made = make("button", "", name);
  made.type = "button";
  made.append(...children);
  made.addEventListener("click", () => choose(i));
  return made;
}

function choose(i) {
  selected = i;
  history.replaceState(null, "", `#${encodeURIComponent(data.ids[i])}`);
  const self = make("div", "", "self");
  const text = make("div");
  text.append(make("b", data.ids[i]), `${className(i)} · ${data.partNames[data.parts[i]]}${wrong.has(i) ? " · wrong" : ""}`);
  self.append(...pictured(i, 84), text);
  const list = make("ol");
  neighboursOf(i).forEach((j, rank) => {
    const item = make("li");
    const same = data.labels[i] >= 0 && data.labels[i] === data.labels[j];
    const cosine = (cosines[i * data.k + rank] / 1e4).toFixed(3);
    const made = button(j, [...pictured(j, 56), make("span", className(j)), make("span", cosine)], same ? "" : "other");
    made.title = data.ids[j];
    item.append(made);
    list.append(item);
  });
  const note = make("p", "By cosine, the nearest first; a dashed edge is another class.", "quiet");
  by("chosen").replaceChildren(make("h2", "Nearest neighbours"), self, note, list);
  draw();
}

// Failures, the worst first.
if (data.failures.length) {
  by("failures").hidden = false;
  const more = data.allFailures - data.failures.length;
  by("failures-note").textContent =
    `${data.allFailures.toLocaleString("en")} images whose nearest is of another class, the worst first${more ? `; ${data.failures.length} are listed` : ""}.`;
  by("failures").querySelector("ol").append(...data.failures.map(([i, taken, rank]) => {
    const item = make("li");
    item.append(button(i, [...pictured(i, 40), make("span", `${className(i)}, nearest is ${taken || "of no class"}; the first right one is number ${rank}`)]));
    return item;
  }));
}

function fromAddress() {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch { /* not encoded: the name as it stands */ }
  if (place.has(id)) choose(place.get(id));
  else if (id) by("count").textContent = `there is no image ${id}`;
}

draw().then((map) => {
  map.on("plotly_click", ({ points }) => points[0].customdata !== undefined && choose(points[0].customdata));
  map.on("plotly_hover", ({ points, event }) => {
    const i = points[0].customdata;
    if (i === undefined) return;
    const tip = by("tip");
    tip.replaceChildren(...pictured(i, 84), make("b", className(i)), make("div", data.ids[i]));
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
  });
  map.on("plotly_unhover", () => { by("tip").hidden = true; });
  root.dataset.drawn = "yes";
  fromAddress();
});
addEventListener("hashchange", fromAddress);
for (const id of ["plane", "colour", "class", "part"]) by(id)?.addEventListener("change", () => draw(id !== "plane"));
by("whole").addEventListener("click", () => Plotly.relayout("map", { "xaxis.autorange": true, "yaxis.autorange": true }));
by("map").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !shown.length) return;
  event.preventDefault();
  const at = shown.indexOf(selected);
  choose(shown[at < 0 ? 0 : (at + step + shown.length) % shown.length]);
});
by("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = new FormData(event.target).get("id").trim();
  const i = place.get(wanted) ?? data.ids.findIndex((id) => wanted && id.includes(wanted));
  if (i >= 0) choose(i);
  else by("count").textContent = `there is no image ${wanted}`;
});

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
const nameTheme = () => { by("theme").textContent = isDark() ? "Light" : "Dark"; };
by("theme").addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { nameTheme(); draw(); });
nameTheme();
