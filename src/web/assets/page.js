"use strict";
// The page of the dashboard. The server sends the whole state once, then the changes. The script updates only changed parts.
// Text from servers is put into text nodes, never into markup.

const STATES = ["done", "publishing", "copying", "pending", "failed"];
// Up to this number, partitions are shown with their names; above it, only with signs.
const MAX_NAMED = 120;
const MAX_RATES = 1800;
const RECONNECT_MILLIS = 2000;

const byId = (id) => document.getElementById(id);
let tables = [];
let rates = [];
let seenAt = null;
let stale = null;
let connected = false;
let opened = null;

// Makes an element with classes, text and children, never with markup.
function make(name, kind, ...inside) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.append(...inside);
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function number(value) {
  return value.toLocaleString("en");
}

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function clock(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

// Returns 100 only if everything is copied.
function percent(part, all) {
  if (all === 0 || part >= all) return 100;
  return Math.min(99.9, (part / all) * 100);
}

// Builds a changed list again; lists are short.
function list(element, items, none, made) {
  const text = JSON.stringify(items);
  if (element.dataset.shown === text) return;
  element.dataset.shown = text;
  const lines = items.length ? items.map(made) : [make("li", "none", none)];
  element.replaceChildren(...lines);
}

// Progress: a bar that also has its meaning in words.

function bar(label) {
  const copied = make("span", "copied");
  const published = make("span", "published");
  const element = make("div", "bar", copied, published);
  element.setAttribute("role", "progressbar");
  element.setAttribute("aria-label", label);
  element.setAttribute("aria-valuemin", "0");
  element.setAttribute("aria-valuemax", "100");
  const words = make("p", "hint");
  const show = (amounts) => {
    const part = percent(amounts.bytes_copied, amounts.bytes);
    const rows = percent(amounts.rows_published, amounts.rows);
    const text = `${part.toFixed(1)} % copied (${size(amounts.bytes_copied)} of ${size(amounts.bytes)}), `
      + `${number(amounts.rows_published)} of ${number(amounts.rows)} rows published`;
    copied.style.width = `${part}%`;
    published.style.width = `${rows}%`;
    element.setAttribute("aria-valuenow", part.toFixed(1));
    element.setAttribute("aria-valuetext", text);
    say(words, text);
  };
  return { element, words, show };
}

const whole = bar("The whole task");
byId("whole").append(whole.element, whole.words);

// The findings of the account of a finished task, one line each.
function found(account) {
  const unknown = account.unaccounted.map((line) => `not accounted: ${line}`);
  return account.differences.map((line) => `DIFFERENT: ${line}`).concat(unknown);
}

function showFigures(status) {
  const partitions = status.total.partitions;
  const all = Object.values(partitions).reduce((sum, count) => sum + count, 0);
  const figures = [
    ["Partitions published", `${number(partitions.done ?? 0)} of ${number(all)}`],
    ["Rows copied", `${number(status.total.rows_copied)} of ${number(status.total.rows)}`],
    ["Rate", status.bytes_per_second ? `${size(status.bytes_per_second)}/s` : "–"],
    ["Time left", status.seconds_left ? duration(status.seconds_left) : "–"],
    ["Retries", number(status.total.retries)],
    ["Errors", number(status.errors.length + found(status.account).length + status.silent.length)],
    ["Workers", number(status.workers.length)],
  ];
  const made = ([name, value]) => {
    const item = make("div", "", make("dt", "", name), make("dd", "", value));
    item.dataset.figure = name;
    return item;
  };
  list(byId("figures"), figures, "", made);
}

// Throughput

function drawRates() {
  const svg = byId("speed");
  const path = (kind) => {
    const found = svg.querySelector(`.${kind}`);
    if (found) return found;
    const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
    made.setAttribute("class", kind);
    svg.append(made);
    return made;
  };
  if (rates.length < 2) {
    say(byId("speed-words"), "Nothing is known yet.");
    return;
  }
  const [from, to] = [rates[0][0], rates[rates.length - 1][0]];
  const most = Math.max(1, ...rates.map(([, rate]) => rate));
  const x = (at) => (((at - from) / Math.max(1, to - from)) * 800).toFixed(1);
  const y = (rate) => (156 - (rate / most) * 150).toFixed(1);
  const line = rates.map(([at, rate]) => `${x(at)} ${y(rate)}`).join("L");
  path("area").setAttribute("d", `M0 160L${line}L800 160Z`);
  path("rate").setAttribute("d", `M${line}`);
  say(byId("speed-words"), `${size(rates[rates.length - 1][1])}/s now, at most ${size(most)}/s; each point is the minute before it.`);
  say(byId("speed-from"), clock(from));
  say(byId("speed-to"), clock(to));
}

// Tables and their grids

function makeTable(index, of) {
  const progress = bar(`Table ${of.name}`);
  const counts = Object.fromEntries(STATES.map((state) => [state, document.createTextNode("")]));
  const legend = make("ul", "legend");
  for (const state of STATES) {
    const sign = make("span", "sign");
    sign.dataset.state = state;
    sign.setAttribute("aria-hidden", "true");
    legend.append(make("li", "", sign, " ", counts[state]));
  }
  const grid = make("div", "grid");
  grid.setAttribute("role", "group");
  grid.setAttribute("aria-label", `Partitions of ${of.name}`);
  grid.setAttribute("aria-describedby", "grid-help");
  grid.addEventListener("keydown", moveInGrid);
  grid.addEventListener("focusin", (event) => becomeStop(grid, event.target));
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) openDetails(index, [...grid.children].indexOf(cell));
  });
  const remarks = make("ul", "plain faint");
  const from = make("p", "faint", `${of.source} → ${of.target}`);
  const head = make("header", "", make("h3", "", of.name), from);
  const element = make("div", "table", head, progress.element, progress.words, legend, grid, remarks);
  element.dataset.table = of.name;
  byId("tables").append(element);
  return { name: of.name, grid, progress, counts, remarks, cells: [] };
}

function showTable(table, of) {
  table.progress.show(of.amounts);
  for (const state of STATES) {
    const text = `${number(of.amounts.partitions[state] ?? 0)} ${state}`;
    if (table.counts[state].data !== text) table.counts[state].data = text;
  }
  const remarks = [...of.remarks];
  if (of.unchanged) remarks.unshift(`${number(of.unchanged)} more partitions are as they were copied before`);
  list(table.remarks, remarks, "", (remark) => make("li", "", remark));
  if (!remarks.length) table.remarks.replaceChildren();
}

function showCell(table, at, partition) {
  let cell = table.cells[at];
  if (!cell) {
    cell = make("button", "cell", "");
    cell.type = "button";
    cell.tabIndex = at === 0 ? 0 : -1;
    table.cells[at] = cell;
    table.grid.append(cell);
  }
  if (cell.dataset.state !== partition.state) cell.dataset.state = partition.state;
  const copied = percent(partition.copied, partition.rows);
  const part = partition.state === "copying" && copied > 0 ? `, ${copied.toFixed(0)} % copied` : "";
  const label = `${partition.name}: ${partition.state}${part}, ${number(partition.rows)} rows`;
  cell.setAttribute("aria-label", label);
  cell.title = label;
  cell.dataset.name = partition.name;
}

function nameCells(table) {
  const few = table.cells.length <= MAX_NAMED;
  table.grid.classList.toggle("few", few);
  if (!few) return;
  for (const cell of table.cells) say(cell, cell.dataset.name);
}

function becomeStop(grid, cell) {
  if (!cell.classList.contains("cell") || cell.tabIndex === 0) return;
  for (const other of grid.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  cell.tabIndex = 0;
}

function moveInGrid(event) {
  const cells = event.currentTarget.children;
  const at = [...cells].indexOf(event.target);
  if (at < 0) return;
  let columns = 1;
  while (columns < cells.length && cells[columns].offsetTop === cells[0].offsetTop) columns += 1;
  const last = cells.length - 1;
  const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: last };
  const to = steps[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (cells[to]) cells[to].focus();
}

// A partition with its pieces

async function openDetails(table, partition) {
  opened = { table, partition };
  byId("details-body").replaceChildren(make("p", "none", "asking"));
  say(byId("details-title"), "");
  byId("details").showModal();
  await showDetails();
}

async function showDetails() {
  if (!opened) return;
  const { table, partition } = opened;
  let body;
  let title = "";
  try {
    const answer = await fetch(`/api/partition?table=${table}&partition=${partition}`);
    if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).trim()}`);
    const details = await answer.json();
    title = `${details.batch.table}, partition ${details.status.name}`;
    body = detailsOf(details);
  } catch (error) {
    body = [make("p", "", `This cannot be shown now: ${error.message}`)];
  }
  if (!opened || opened.table !== table || opened.partition !== partition) return;
  if (title) say(byId("details-title"), title);
  byId("details-body").replaceChildren(...body);
}

function detailsOf({ status, batch }) {
  const sign = (state) => {
    const made = make("span", "sign");
    made.dataset.state = state;
    made.setAttribute("aria-hidden", "true");
    return made;
  };
  const lines = [make("p", "", sign(status.state), ` ${status.state}; ${number(status.rows)} rows, about ${size(status.bytes)}; `
    + `${number(status.rows_copied)} rows copied`
    + (status.rows_published === null ? "" : `, ${number(status.rows_published)} counted in the target`))];
  if (batch.partitions.length > 1) {
    const some = batch.partitions.slice(0, 20).join(", ") + (batch.partitions.length > 20 ? ", …" : "");
    lines.push(make("p", "faint", `Published together with ${batch.partitions.length - 1} others (batch ${batch.batch}): ${some}`));
  }
  if (batch.publisher) lines.push(make("p", "", `${batch.publisher} publishes it`));
  if (batch.error) lines.push(make("p", "", `Publishing: ${batch.error}`));
  const heads = ["Piece", "State", "Source shards", "Rows", "Copied", "Attempts", "Took", "Worker"];
  const numbers = [3, 4, 5, 6];
  const cellKind = (at) => (numbers.includes(at) ? "number" : "");
  const head = make("tr", "", ...heads.map((text, at) => {
    const cell = make("th", cellKind(at), text);
    cell.scope = "col";
    return cell;
  }));
  const rows = batch.pieces.flatMap((piece) => {
    const took = piece.millis === null ? "–" : duration(piece.millis / 1000);
    const state = make("span", "", sign(piece.state), ` ${piece.state}`);
    const copied = piece.rows_copied === null ? "–" : number(piece.rows_copied);
    const cells = [piece.piece, state, piece.shards.join(", "), number(piece.rows), copied, piece.attempts, took, piece.worker ?? "–"];
    const row = make("tr", "", ...cells.map((cell, at) => make("td", cellKind(at), cell)));
    if (!piece.error) return [row];
    const wide = make("td", "", `Last error of piece ${piece.piece}: ${piece.error}`);
    wide.colSpan = heads.length;
    return [row, make("tr", "", wide)];
  });
  const table = make("table", "", make("thead", "", head), make("tbody", "", ...rows));
  const scroll = make("div", "scroll", table);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "Pieces");
  return [...lines, scroll];
}

// The event comes late: the dialog may be open again.
byId("details").addEventListener("close", () => {
  if (!byId("details").open) opened = null;
});

// Workers, errors, events

function workerItem(worker) {
  const jobs = make("ul", "plain");
  for (const job of worker.jobs) {
    const attempt = job.attempt > 1 ? ` (attempt ${job.attempt})` : "";
    const item = make("li", "", job.what + attempt);
    for (const statement of job.statements) {
      item.append(make("p", "faint", `${statement.node}: ${number(statement.rows_read)} rows read, `
        + `${number(statement.rows_written)} written, ${duration(statement.millis / 1000)}`));
    }
    jobs.append(item);
  }
  if (!worker.jobs.length) jobs.append(make("li", "none", "has nothing in hand"));
  const item = make("li", "", make("h3", "", worker.name), jobs);
  item.dataset.worker = worker.name;
  return item;
}

function addEvents(events) {
  const log = byId("events");
  // A screen reader does not read older events aloud.
  log.setAttribute("aria-busy", String(log.children.length === 0));
  for (const event of events) {
    const time = make("time", "", clock(event.at));
    time.dateTime = event.at;
    const item = make("li", "", time, " ", event.text);
    item.dataset.about = event.about;
    log.prepend(item);
  }
  while (log.children.length > 500) log.lastChild.remove();
}

// Messages of the server

// After a restart of the dashboard the same state comes again: existing elements and the focus stay.
function begin(news) {
  rates = [];
  byId("events").replaceChildren();
  const of = news.status?.tables ?? [];
  const counts = of.map((_, table) => news.partitions.filter(([at]) => at === table).length);
  const isSame = tables.length === of.length
    && tables.every((table, at) => table.name === of[at].name && table.cells.length === counts[at]);
  if (isSame) return;
  tables = [];
  byId("tables").replaceChildren();
}

function take(news) {
  connected = true;
  seenAt = news.seen_at;
  stale = news.stale;
  if (news.whole) begin(news);
  addEvents(news.events);
  rates = rates.concat(news.rates).slice(-MAX_RATES);
  drawRates();
  if (news.status) showStatus(news.status, news.partitions);
  showLine(news.status);
}

function showStatus(status, partitions) {
  say(byId("path"), `${status.path} (task ${status.task})`);
  whole.show(status.total);
  showFigures(status);
  status.tables.forEach((of, index) => {
    tables[index] ??= makeTable(index, of);
    showTable(tables[index], of);
  });
  for (const [table, at, partition] of partitions) showCell(tables[table], at, partition);
  if (partitions.length) tables.forEach(nameCells);
  list(byId("workers"), status.workers, "Nobody works on the task.", workerItem);
  list(byId("waits"), status.waits, "Nothing waits for anything but a worker.", (wait) => make("li", "", wait));
  const errors = status.errors.map((error) => `${error.what}: ${error.error}${error.tried_again ? " (is tried again)" : ""}`);
  list(byId("errors"), found(status.account).concat(errors, status.silent), "None.", (line) => make("li", "", line));
  if (opened) showDetails();
}

let lastState = "";
function showLine(status) {
  if (status) lastState = status.state;
  const alarm = byId("alarm");
  if (!connected) say(alarm, "The dashboard does not answer; trying again. What stands here is old.");
  else if (stale) say(alarm, `The task cannot be seen now: ${stale}`);
  alarm.hidden = connected && !stale;
  const since = seenAt ? `, seen at ${clock(seenAt)}` : "";
  say(byId("line"), connected && !stale ? `live: ${lastState}` : `old${since}`);
  document.title = lastState ? `${lastState} – clickhouse-copier` : "clickhouse-copier";
}

// A live server sends a message every few seconds, even if the task does not change.
const SILENCE_MILLIS = 60000;
// A hidden page must not make the dashboard ask servers.
const HIDDEN_MILLIS = 60000;
let source = null;
let silence = 0;
let hidden = 0;

function connect() {
  if (source || document.hidden) return;
  source = new EventSource("/api/stream");
  listen();
  source.onmessage = (message) => {
    listen();
    take(JSON.parse(message.data));
  };
  // The script reconnects itself: the browser would give up after a refusal.
  source.onerror = lost;
}

function listen() {
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MILLIS);
}

function leave() {
  clearTimeout(silence);
  source?.close();
  source = null;
}

async function lost() {
  leave();
  connected = false;
  showLine(null);
  setTimeout(connect, RECONNECT_MILLIS);
  const answer = await fetch("/api/events").catch(() => null);
  // The dashboard was restarted with another token.
  if (answer?.status === 401) location.reload();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.hidden) hidden = setTimeout(leave, HIDDEN_MILLIS);
  else connect();
});

connect();
