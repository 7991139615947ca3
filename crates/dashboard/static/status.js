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
const number = (value) => (value == null ? "–" : value.toLocaleString("en"));
const table = (caption, head, rows) => {
  const made = document.createElement("table");
  made.append(element("caption", caption));
  const line = (kind, cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => element(kind, cell)));
    return row;
  };
  made.append(line("th", head), ...rows.map((cells) => line("td", cells)));
  return made;
};
// What a look brought, or why there is nothing.
const source = (name, seen, show) => {
  if (seen == null) return [];
  const age = seen.age_seconds == null ? "" : `, ${Math.round(seen.age_seconds)} s ago`;
  const state = seen.error && !seen.up ? `${name}: down: ${seen.error}` : `${name}: ${seen.up ? "up" : "looking"}${age}`;
  return [element("p", state), ...(seen.figures ? show(seen.figures) : [])];
};
const platform = (sources) => [
  ...source("Kafka", sources.kafka, (kafka) => [table(`Topic ${kafka.topic}, ${kafka.bootstrap}`,
    ["partition", "end", "committed", "lag"],
    kafka.partitions.map((p) => [p.partition, p.end, p.committed, p.lag].map(number)))]),
  ...source("Lake", sources.lake, (lake) => [
    table(lake.place, ["folder", "objects", "bytes", "newest"], Object.entries(lake.folders).map(([name, folder]) =>
      [name, number(folder.objects) + (folder.complete ? "" : " or more"), number(folder.bytes),
        folder.newest ? `${folder.newest.written} ${folder.newest.key}` : "–"])),
    table("In the lake up to", ["partition", "offset"],
      Object.entries(lake.chain_ends).map(([partition, end]) => [partition, number(end)])),
  ]),
  ...source("PostgreSQL", sources.postgres, (postgres) => [
    table(postgres.address, ["table", "rows"],
      Object.entries(postgres.rows).map(([name, rows]) => [name, number(rows)])),
    ...(postgres.slot ? [table(`Slot ${postgres.slot.name}`, ["read", "lag, bytes", "kept log, bytes", "state"],
      [[postgres.slot.active ? "yes" : "no", number(postgres.slot.lag_bytes),
        number(postgres.slot.retained_bytes), postgres.slot.wal_status]])] : []),
  ]),
];
async function refresh() {
  try {
    const answer = await fetch("/api/status", { cache: "no-store" });
    const status = await answer.json();
    byId("state").textContent =
      `${status.command} · ${status.ready ? "ready" : "not ready"} · up ${Math.round(status.uptime_seconds)} s`;
    byId("lake").textContent = status.lake.up ? ""
      : `The lake has taken nothing for ${number(status.lake.down_seconds)} s: ${status.lake.error}`;
    byId("kafka").textContent = status.kafka?.error == null ? ""
      : `Kafka has not answered for ${number(status.kafka.down_seconds)} s: ${status.kafka.error}`;
    // Who only watches has no rows of its own.
    const shown = status.platform ? FIGURES.filter(([key]) => /restarts|memory/.test(key)) : FIGURES;
    byId("figures").replaceChildren(...shown.map(([key, label]) => {
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
    byId("platform").replaceChildren(...(status.platform ? platform(status.platform) : []));
  } catch {
    byId("state").textContent = "the process does not answer";
  }
}
refresh();
setInterval(refresh, 1000);
