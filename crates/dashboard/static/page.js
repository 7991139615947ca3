"use strict";
// Loads the cards of a page, draws their charts, and follows what the server says is new.

const style = () => getComputedStyle(document.documentElement);

// A colour that begins with `--` is the style sheet's.
const painted = (value) => {
  if (typeof value === "string" && value.startsWith("--")) return style().getPropertyValue(value).trim();
  if (Array.isArray(value)) return value.map(painted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, painted(part)]));
};

// Each resolves when a card of the page has its first answer in place.
let first = [];
let library = null;

// The library is large, and while it starts the page does nothing else: figures and tables come before it, unless they
// take long.
function charts() {
  library ??= Promise.race([Promise.all(first), new Promise((late) => setTimeout(late, 300))]).then(fetchLibrary);
  return library;
}

const fetchLibrary = () => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = document.getElementById("plotly").href;
  script.addEventListener("load", () => resolve(window.Plotly));
  // The next card that comes tries again.
  script.addEventListener("error", (event) => {
    library = null;
    reject(event);
  });
  document.head.append(script);
});

async function draw(card) {
  const plot = card.querySelector(".plot");
  if (!plot) return;
  const figure = painted(JSON.parse(card.querySelector("script").textContent));
  const [ink, dim, rule, card_colour, second] =
    ["--ink", "--dim", "--rule", "--card", "--second"].map((name) => style().getPropertyValue(name).trim());
  const axis = { gridcolor: rule, zerolinecolor: rule, linecolor: rule, tickfont: { color: dim }, automargin: true };
  const layout = { ...figure.layout };
  for (const name of ["xaxis", "yaxis", "yaxis2"]) {
    if (name !== "yaxis2" || layout[name]) layout[name] = { ...axis, ...layout[name] };
  }
  const family = style().fontFamily;
  const Plotly = await charts();
  await Plotly.react(plot, figure.data, {
    ...layout,
    autosize: true,
    colorway: [style().getPropertyValue("--accent").trim(), second, style().getPropertyValue("--fraud").trim(), dim],
    font: { family, color: ink, size: 12 },
    hoverlabel: { bgcolor: card_colour, bordercolor: rule, font: { family, color: ink } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    margin: { l: 8, r: 8, t: 8, b: 8 },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
  }, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
}

const shown = new WeakMap();
// The moment of the lake that a card shows, as the server numbers them.
const moments = new WeakMap();

// Fetches a card and puts it in place; what the server writes there is escaped by it.
async function load(card, placed) {
  // What is fetched every few seconds is replaced in place, and only if it has changed.
  const again = card.dataset.every && shown.has(card);
  if (!again) card.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`/cards/${card.dataset.card}${location.search}`);
    const text = await answer.text();
    moments.set(card, answer.headers.get("lake-moment"));
    if (answer.ok) {
      const open = [...card.querySelectorAll("details")].map((details) => details.open);
      if (again && shown.get(card) === text) return;
      shown.set(card, text);
      const fresh = document.createElement("template");
      fresh.innerHTML = text;
      const plot = card.querySelector(".plot");
      const place = fresh.content.querySelector(".plot");
      if (again && plot && place) place.replaceWith(plot);
      else if (plot && window.Plotly) window.Plotly.purge(plot);
      card.replaceChildren(fresh.content);
      card.querySelectorAll("details").forEach((details, index) => { details.open = open[index] ?? false; });
      placed?.();
      await draw(card);
    } else {
      problem(card, text);
    }
  } catch {
    moments.delete(card);
    problem(card, "The process does not answer. What is shown is as it was.");
  }
  placed?.();
  card.setAttribute("aria-busy", "false");
}

function problem(card, text) {
  shown.delete(card);
  const line = card.querySelector(".problem") ?? document.createElement("p");
  line.className = "problem";
  line.setAttribute("role", "alert");
  line.textContent = text;
  if (!line.parentNode) card.append(line);
}

// A card that is being used is left alone, and one that a dialog gives the focus back to.
const idle = (card) => !card.contains(document.activeElement) && !document.querySelector("dialog[open]");

// What shows this moment is fetched again and again, but not under the hands of a person.
function watch(card) {
  let busy = false;
  setInterval(async () => {
    if (busy || document.hidden || !idle(card) || chosen(card)) return;
    busy = true;
    await load(card);
    busy = false;
  }, 1000 * Number(card.dataset.every));
}

function chosen(card) {
  const selection = getSelection();
  return !selection.isCollapsed && card.contains(selection.anchorNode);
}

// What shows another moment than the newest is fetched again, as soon as it is not in use.
function renew(moment) {
  const old = (card) =>
    !card.dataset.every && card.getAttribute("aria-busy") === "false" && moments.get(card) !== String(moment);
  cards().filter((card) => old(card) && idle(card)).forEach((card) => load(card));
}

const cards = () => [...document.querySelectorAll("[data-card]")];

function follow() {
  const live = document.getElementById("live");
  let source = null;
  const open = () => {
    source = new EventSource("/events");
    source.onmessage = (message) => {
      const now = JSON.parse(message.data);
      live.className = now.state;
      if (live.textContent !== now.text) live.textContent = now.text;
      if (now.moment !== null) renew(now.moment);
    };
    source.onerror = () => {
      live.className = "bad";
      live.textContent = "the process does not answer";
    };
  };
  // A hidden page keeps no connection.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      open();
    }
  });
  if (!document.hidden) open();
}

first = cards().map((card) => new Promise((placed) => { load(card, placed); }));
document.querySelectorAll("[data-every]").forEach(watch);
follow();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cards().forEach(draw));
