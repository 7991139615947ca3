"use strict";
const FIGURES = [
  ["rows_published", "rows published"], ["rows_committed", "rows put in the lake"],
  ["lag_records", "lag"], ["records_rejected", "rejected"], ["files", "files"],
  ["bytes", "bytes"], ["restarts", "restarts"], ["process_memory_bytes", "process memory, bytes"],
];
const byId = (id) => document.getElementById(id);
const element = (name, text) => {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
};
async function refresh() {
  try {
    const answer = await fetch("/api/status", { cache: "no-store" });
    const status = await answer.json();
    byId("state").textContent =
      `${status.command} · ${status.ready ? "ready" : "not ready"} · up ${Math.round(status.uptime_seconds)} s`;
    byId("figures").replaceChildren(...FIGURES.map(([key, label]) => {
      const pair = document.createElement("div");
      const value = status.meters[key] ?? status[key];
      pair.append(element("dt", label), element("dd", value == null ? "–" : value.toLocaleString("en")));
      return pair;
    }));
    byId("groups").replaceChildren(...Object.entries(status.groups).map(([name, group]) => {
      const row = document.createElement("tr");
      row.append(element("td", name), element("td", group.state),
        element("td", group.generation), element("td", group.last_failure ?? "–"));
      return row;
    }));
  } catch {
    byId("state").textContent = "the process does not answer";
  }
}
refresh();
setInterval(refresh, 1000);
