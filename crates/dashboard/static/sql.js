"use strict";
// The box for statements: runs them, completes names, remembers the last ones. `draw` is page.js's.

{
  const box = document.getElementById("sql");
  const state = document.getElementById("state");
  const answer = document.getElementById("answer");
  const suggestions = document.getElementById("suggestions");
  const HISTORY = "ftap-statements";
  const LAST = 20;

  const button = (text, take) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", take);
    return made;
  };

  // A browser that keeps nothing has no history, and everything else works.
  const history = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(HISTORY));
      return Array.isArray(kept) ? kept.filter((sql) => typeof sql === "string") : [];
    } catch {
      return [];
    }
  };

  const remember = (sql) => {
    const kept = [sql, ...history().filter((known) => known !== sql)].slice(0, LAST);
    try {
      localStorage.setItem(HISTORY, JSON.stringify(kept));
    } catch {
      return;
    }
    showHistory();
  };

  const showHistory = () => {
    const lines = history().map((sql) => {
      const line = document.createElement("li");
      const choice = button(sql.replace(/\s+/g, " "), () => put(sql));
      choice.className = "quiet";
      choice.title = sql;
      line.append(choice);
      return line;
    });
    document.getElementById("history").replaceChildren(...lines);
  };

  const put = (sql) => {
    box.value = sql;
    box.focus();
  };

  const refuse = (text) => {
    state.textContent = "";
    const problem = document.createElement("pre");
    problem.className = "problem";
    problem.setAttribute("role", "alert");
    problem.textContent = text;
    clear();
    answer.replaceChildren(problem);
  };

  const clear = () => {
    const plot = answer.querySelector(".plot");
    if (plot && window.Plotly) window.Plotly.purge(plot);
  };

  const ask = (body) => fetch("/sql/query", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

  // One at a time: each may take what all of them together may take.
  let running = false;
  const alone = async (work) => {
    if (running) return;
    running = true;
    state.textContent = "running…";
    answer.setAttribute("aria-busy", "true");
    try {
      await work();
    } catch {
      refuse("The process does not answer.");
    }
    answer.setAttribute("aria-busy", "false");
    running = false;
  };

  const run = () => alone(async () => {
    const sql = box.value;
    window.history.replaceState(null, "", `#${encodeURIComponent(sql)}`);
    const got = await ask({ sql });
    const text = await got.text();
    if (!got.ok) return refuse(text);
    remember(sql);
    clear();
    answer.innerHTML = text;
    const note = answer.querySelector("[data-state]");
    state.textContent = note.textContent;
    note.remove();
    await draw(answer);
  });

  const save = (format) => alone(async () => {
    const got = await ask({ sql: box.value, format });
    if (!got.ok) return refuse(await got.text());
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await got.blob());
    link.download = `answer.${format === "json" ? "jsonl" : format}`;
    link.click();
    URL.revokeObjectURL(link.href);
    state.textContent = `${link.download} is saved`;
  });

  const names = [...new Set([...document.querySelectorAll("[data-name]")].map((name) => name.dataset.name))];

  const word = () => box.value.slice(0, box.selectionStart).match(/[A-Za-z_]\w*$/)?.[0] ?? "";

  const insert = (text, replaced) => {
    box.setRangeText(text, box.selectionStart - replaced, box.selectionEnd, "end");
    box.focus();
    suggestions.replaceChildren();
  };

  const suggest = () => {
    const begun = word().toLowerCase();
    const fits = begun.length < 2 ? [] : names.filter((name) => name.toLowerCase().startsWith(begun) && name.toLowerCase() !== begun);
    suggestions.replaceChildren(...fits.slice(0, 8).map((name) => button(name, () => insert(name, word().length))));
  };

  const fromAddress = () => {
    if (location.hash.length < 2) return;
    try {
      box.value = decodeURIComponent(location.hash.slice(1));
    } catch {
      // Not an address that this page made.
    }
  };

  document.getElementById("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    }
  });
  box.addEventListener("input", suggest);
  document.querySelectorAll("[data-file]").forEach((choice) => choice.addEventListener("click", () => save(choice.dataset.file)));
  document.querySelectorAll("[data-name]").forEach((choice) => choice.addEventListener("click", () => insert(choice.dataset.name, 0)));
  document.querySelectorAll("[data-sql]").forEach((choice) => choice.addEventListener("click", () => {
    put(choice.dataset.sql);
    run();
  }));
  addEventListener("hashchange", fromAddress);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(answer));
  fromAddress();
  showHistory();
}
