// Clicks through the pages of live runs in Chromium. Environment: FTAP, the program (a debug build, which has
// failpoints); CHROMIUM, the browser; PICTURES, a folder for screenshots, or nothing.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { chromium } from "playwright-core";

const { FTAP, CHROMIUM = "/usr/bin/chromium", PICTURES } = process.env;
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const PATIENCE = 60_000;
const ROWS = "20000";

// A program in a folder of its own, and its events; it is killed at the end whatever happens.
class Program {
  constructor(folder, args, env = {}) {
    this.folder = folder;
    this.events = [];
    this.waiting = [];
    this.process = spawn(FTAP, args, {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder, LOG_FORMAT: "json", DASHBOARD_ADDR: "127.0.0.1:0", POSTGRES: "off", ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let rest = "";
    this.process.stderr.on("data", (bytes) => {
      const lines = (rest + bytes).split("\n");
      rest = lines.pop();
      for (const line of lines.filter((text) => text.startsWith("{"))) this.#take(JSON.parse(line));
    });
    programs.add(this);
  }

  #take(event) {
    this.events.push(event);
    this.waiting = this.waiting.filter(({ wanted, resolve }) => !wanted(event) || resolve(event));
  }

  event(name) {
    const wanted = (event) => event.event === name;
    const seen = this.events.find(wanted);
    if (seen) return Promise.resolve(seen);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${name} within ${PATIENCE} ms: ${JSON.stringify(this.events.slice(-5))}`)), PATIENCE);
      this.waiting.push({ wanted, resolve: (event) => { clearTimeout(timer); resolve(event); } });
    });
  }

  async url() {
    return (await this.event("http_listening")).url;
  }

  query(sql) {
    const env = { PATH: process.env.PATH, HOME: this.folder };
    const lines = execFileSync(FTAP, ["query", "--format", "json", sql], { cwd: this.folder, env, encoding: "utf8" });
    return lines.trim().split("\n").map((line) => JSON.parse(line));
  }

  kill(signal) {
    programs.delete(this);
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    if (this.process.exitCode === null) this.process.kill(signal);
    return this.process.exitCode === null ? ended : Promise.resolve();
  }
}

const programs = new Set();
const folders = [];
const folder = () => {
  folders.push(mkdtempSync(join(tmpdir(), "ftap-pages-")));
  return folders.at(-1);
};

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--no-first-run"],
  });
});
after(async () => {
  await browser?.close();
  for (const program of [...programs]) await program.kill("SIGKILL");
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

// A page that notes what must not be: messages of the console, and requests to other hosts.
async function open(url, path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.trouble = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) page.trouble.push(message.text());
  });
  page.on("pageerror", (error) => page.trouble.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) page.trouble.push(`asks ${request.url()}`);
  });
  await page.goto(url + path);
  await loaded(page);
  return page;
}

async function loaded(page) {
  await page.waitForFunction(() =>
    [...document.querySelectorAll("[data-card]")].every((card) => card.getAttribute("aria-busy") === "false"));
}

// Until what the page shows is so; what it showed last is in the failure.
async function shows(page, selector, wanted) {
  const end = Date.now() + PATIENCE;
  let text;
  do {
    text = await page.locator(selector).first().textContent().catch(() => null);
    if (text !== null && wanted.test(text)) return;
    await page.waitForTimeout(100);
  } while (Date.now() < end);
  assert.match(String(text), wanted);
}

async function inspected(page, name) {
  await page.addScriptTag({ path: AXE });
  const found = await page.evaluate(async () => {
    const result = await globalThis.axe.run();
    return result.violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
  });
  assert.deepEqual(found, [], name);
}

async function picture(page, name) {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

describe("the pages of a run", () => {
  let run, url, pages;
  before(async () => {
    run = new Program(folder(), ["run", "--rows", ROWS]);
    url = await run.url();
    const page = await open(url, "/");
    await shows(page, "[data-card=headline]", /20\.0 k/);
    pages = await page.locator("nav a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
    await page.context().close();
  });

  it("answer a statement as ftap query does, save it, and keep it in the address and the history", async () => {
    const sql = "select category, count(*) as n from fct_transactions group by 1 order by 1";
    const page = await open(url, "/sql");
    await page.locator("#sql").fill("select cate");
    await page.locator("#sql").press("End");
    await page.keyboard.type("g");
    await page.locator("#suggestions button", { hasText: /^category$/ }).click();
    assert.equal(await page.locator("#sql").inputValue(), "select category");
    await page.locator("#sql").fill(sql);
    await page.locator("#sql").press("Control+Enter");
    await shows(page, "#state", /^14 rows in/);
    const shown = await page.locator("#answer tbody tr").evaluateAll((rows) =>
      rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    const expected = run.query(sql).map(({ category, n }) => [category, String(n)]);
    assert.deepEqual(shown, expected);
    await page.locator("#answer .plot .main-svg").first().waitFor();
    const [saved] = await Promise.all([page.waitForEvent("download"), page.locator("[data-file=csv]").click()]);
    assert.equal(saved.suggestedFilename(), "answer.csv");
    await page.locator("#history button", { hasText: sql }).waitFor();

    const linked = await page.context().newPage();
    await linked.goto(page.url());
    assert.equal(await linked.locator("#sql").inputValue(), sql);

    await page.locator("#sql").fill(`select '<img src=x onerror="document.title=1">' || value as "<b>x</b>", value as n from generate_series(1, 3)`);
    await page.locator("#sql").press("Control+Enter");
    await shows(page, "#state", /^3 rows in/);
    await shows(page, "#answer th", /<b>x<\/b>/);
    assert.equal(await page.locator("#answer img").count(), 0);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
  });

  it("are all there, say nothing to the console, ask no other host and pass axe, on both widths and in both schemes", async () => {
    assert.ok(pages.length >= 2);
    for (const [width, colorScheme] of [[1280, "light"], [390, "dark"], [1280, "dark"]]) {
      for (const path of pages) {
        const name = `${path.slice(1) || "overview"}-${width}-${colorScheme}`;
        const page = await open(url, path, { viewport: { width, height: 900 }, colorScheme });
        const charts = page.locator(".plot");
        for (let index = 0; index < await charts.count(); index += 1) {
          await charts.nth(index).locator(".main-svg").first().waitFor();
        }
        assert.deepEqual(page.trouble, [], name);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${name} is ${wider} px too wide`);
        await picture(page, name);
        await page.context().close();
        // Axe is a script that the pages' policy forbids.
        const bare = await open(url, path, { viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
        await inspected(bare, name);
        await bare.context().close();
      }
    }
  });

  it("show what `ftap query` answers", async () => {
    const page = await open(url, "/?currency=EUR&from=2019-03-01&to=2019-04-30");
    const condition = "where currency = 'EUR' and date_key between 20190301 and 20190430";
    const [{ count, users }] = run.query(
      `select count(*) as count, count(distinct user_id) as users from fct_transactions ${condition}`);
    const figures = await page.locator(".kpi .value").allTextContents();
    assert.equal(figures[1], count.toLocaleString("en"));
    assert.equal(figures[4], users.toLocaleString("en"));
    const categories = run.query(
      `select category, count(*) as count from fct_transactions ${condition} group by 1 order by sum(amount_usd) desc`);
    await page.locator("[data-card=by_category] summary").click();
    const rows = page.locator("[data-card=by_category] tbody tr");
    assert.equal(await rows.count(), categories.length);
    for (const [index, { category, count: expected }] of categories.entries()) {
      const cells = await rows.nth(index).locator("td").allTextContents();
      assert.deepEqual(cells.slice(0, 2), [category, expected.toLocaleString("en")]);
    }
    // A filter is changed by the form and kept in the address.
    await page.locator("select[name=fraud]").selectOption("only");
    await page.getByRole("button", { name: "Show" }).click();
    await page.waitForURL(/fraud=only/);
    assert.match(page.url(), /currency=EUR/);
    await page.context().close();
  });

  it("cut no column off, keep the first one in sight, and have nothing over a chart", async () => {
    const page = await open(url, "/");
    const wider = (name) => page.locator(`[data-card=${name}] .scroll`).evaluate((box) => box.scrollWidth - box.clientWidth);
    await page.locator("[data-card=by_category] summary").click();
    assert.deepEqual([await wider("newest"), await wider("by_category")], [0, 0]);
    const tops = await page.locator(".filters label").evaluateAll((labels) => labels.map((label) => label.getBoundingClientRect().top));
    assert.equal(new Set(tops).size, 1, String(tops));
    await page.locator(".main-svg").first().waitFor();
    for (const plot of await page.locator(".plot").all()) {
      const over = await plot.evaluate((box) => {
        const bar = box.querySelector(".modebar").getBoundingClientRect();
        return [bar.height > 0, bar.bottom - box.getBoundingClientRect().top];
      });
      assert.ok(over[0] && over[1] <= 0, String(over));
    }
    await page.setViewportSize({ width: 390, height: 900 });
    const left = await page.locator("[data-card=newest] .scroll").evaluate((box) => {
      box.scrollLeft = 200;
      return box.querySelector("td").getBoundingClientRect().left - box.getBoundingClientRect().left;
    });
    assert.equal(left, 0);
    await page.context().close();
  });

  it("work by the keyboard", async () => {
    const page = await open(url, "/");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "to the content");
    for (const _ of pages) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL(url + pages.at(-1));
    await page.context().close();
  });
});

describe("a lake that changes", () => {
  it("between a card's answer and the first event is shown", async () => {
    const place = folder();
    mkdirSync(join(place, "data/lake"), { recursive: true });
    const env = { PATH: process.env.PATH, HOME: place, POSTGRES: "off" };
    const fill = ["run", "--until-drained", "--rows", "300", "--dashboard-addr", "off"];
    const served = new Program(place, ["serve"]);
    const url = await served.url();
    const context = await browser.newContext();
    const page = await context.newPage();
    let release;
    const held = new Promise((resolve) => { release = resolve; });
    await page.route("**/events", async (route) => {
      await held;
      await route.continue();
    });
    await page.goto(url);
    await loaded(page);
    await shows(page, "[data-card=headline]", /Nothing to show yet/);
    execFileSync(FTAP, fill, { cwd: place, env, stdio: "ignore" });
    // Another page has made the program look at the lake, so the first event has nothing that came after it.
    const other = await open(url, "/");
    await shows(other, "[data-card=headline]", /\b300\b/);
    await other.context().close();
    release();
    await shows(page, "[data-card=headline]", /\b300\b/);
    await context.close();
    await served.kill("SIGKILL");
  });
});

describe("what a person asks for", () => {
  const confirm = async (page, answer) => {
    await page.locator("#confirm[open]").waitFor();
    await page.locator("#confirm").getByRole("button", { name: answer }).click();
  };

  it("is done by the group once it is confirmed: pause, resume, flush, restart", async () => {
    const run = new Program(folder(), ["run", "--rows", ROWS, "--gcs-flush-seconds", "600"]);
    const page = await open(await run.url(), "/pipeline");
    const button = (name) => page.getByRole("button", { name: `${name} ingest` });
    await shows(page, "[data-card=pipeline_open]", /open for, seconds/);
    await button("Flush now").click();
    await confirm(page, "No");
    assert.equal(await page.locator("#asked").textContent(), "");
    await button("Flush now").click();
    await confirm(page, "Yes");
    await shows(page, "#asked", /^ingest closes its open files\.$/);
    await shows(page, "[data-card=pipeline_open]", /None is open/);
    await button("Pause").click();
    await confirm(page, "Yes");
    await shows(page, "#asked", /^ingest is paused\.$/);
    await shows(page, "#live", /ingest paused/);
    await button("Restart").click();
    await confirm(page, "Yes");
    await shows(page, "[data-card=pipeline_groups]", /ingest\s+paused[^]*generation 2, restarted 1 time/);
    await button("Resume").click();
    await page.locator("#confirm[open]").waitFor();
    await picture(page, "pipeline-confirm");
    await confirm(page, "Yes");
    await shows(page, "#asked", /^ingest resumes\.$/);
    await shows(page, "#live", /^ftap run · lag 0$/);
    assert.deepEqual(page.trouble, []);
    await page.context().close();
    await run.kill("SIGKILL");
  });

  it("with a rejected message is checked, and then sent once", async () => {
    const place = folder();
    const prepare = (...args) => execFileSync(FTAP, args, { cwd: place, env: { PATH: process.env.PATH, HOME: place }, stdio: "ignore" });
    prepare("generate", "--rows", "500", "--out", "made");
    prepare("prepare", "made/credit_card_transactions.csv");
    const file = join(place, "data/prepared/credit_card_transactions_events.csv");
    const [head, row, ...rest] = readFileSync(file, "utf8").split("\n");
    const at = head.split(";").indexOf("merchant");
    const long = row.split(";").map((value, index) => index === at ? "m".repeat(1_200) : value).join(";");
    writeFileSync(file, [head, long, ...rest].join("\n"));
    const run = new Program(place, ["run", "--gcs-flush-seconds", "0.5", "--produce-speed", "max"], { MAX_MESSAGE_BYTES: "1000" });
    const page = await open(await run.url(), "/");
    await shows(page, "#live", /^ftap run · lag 0$/);
    await page.goto(new URL("/messages?in=quarantine", page.url()).href);
    const first = page.locator(".edit").first();
    await first.locator("summary").click();
    const payload = first.locator("textarea");
    const text = await payload.inputValue();
    await first.getByRole("button", { name: "Send again" }).click();
    await confirm(page, "Yes");
    await first.locator(".problem", { hasText: "would be rejected again: too_large" }).waitFor();
    await payload.fill(JSON.stringify({ ...JSON.parse(text), merchant: "short" }));
    await picture(page, "messages-edit");
    await first.getByRole("button", { name: "Send again" }).click();
    await confirm(page, "Yes");
    await first.locator("[role=status]", { hasText: "Sent again" }).waitFor();
    await page.reload();
    await page.locator("strong", { hasText: "sent again" }).first().waitFor();
    // A refusal is an answer that the browser notes, too.
    assert.deepEqual(page.trouble.filter((line) => !/422/.test(line)), []);
    await page.context().close();
    await run.kill("SIGKILL");
  });
});

describe("trouble", () => {
  it("of an actor is shown with its root cause, and its end", async () => {
    const run = new Program(folder(), ["run", "--rows", ROWS, "--gcs-flush-seconds", "1"], {
      FTAP_FAILPOINTS: "parquet_buffer=panic@1",
    });
    const page = await open(await run.url(), "/");
    await shows(page, "[data-card=headline]", /20\.0 k/);
    await shows(page, "#live", /^ftap run · lag 0$/);
    await page.goto(new URL("/pipeline", page.url()).href);
    await shows(page, "[data-card=pipeline_groups]", /restarted 1 time[^]*newest root cause[^]*parquet_buffer[^]*panic/);
    await shows(page, "[data-card=pipeline_troubles]", /group_restarting/);
    assert.deepEqual(page.trouble, []);
    await page.goBack();
    await run.kill("SIGINT");
    await shows(page, "#live", /the process does not answer/);
    await page.context().close();
  });

  it("with the broker is named in the line at the top", async () => {
    const kafka = new Program(folder(), ["kafka", "--port", "0"]);
    const { bootstrap } = await kafka.event("embedded_kafka_started");
    const run = new Program(folder(), ["run", "--rows", ROWS], { KAFKA_BROKER: bootstrap });
    const page = await open(await run.url(), "/");
    await shows(page, "[data-card=headline]", /20\.0 k/);
    await kafka.kill("SIGKILL");
    await shows(page, "#live", /Kafka has not answered for \d+ s/);
    await page.context().close();
    await run.kill("SIGKILL");
  });
});
