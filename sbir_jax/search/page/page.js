// The drawing page: strokes in, photos out. No library, no build step.

const DELAY = 400; // ms of rest before a search
const LONGEST = 1500; // ms that a search waits while the pen never rests
const SIDE = 512; // pixels of the picture that is sent
const FIRST = 24, MOST = 200; // photos asked for
const TAIL = 5; // characters at the end of a file's name that are always shown
const STEP = 0.02; // arrow keys, in sheets

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), context = canvas.getContext("2d");
const layer = document.createElement("canvas"); // everything but the stroke under way

// What was done to the sheet; undo moves an entry from `done` to `undone`.
let done = [], undone = [], stroke = null;
let erasing = false, cursor = null;

/* Drawing. Positions and widths are in [0, 1] of the sheet, so any size can be drawn. */

function visible() {
  return done.slice(done.findLastIndex((op) => op.kind === "clear") + 1);
}

function isBlank() {
  return !visible().some((op) => op.kind === "image" || !op.erase);
}

function paint(target, op) {
  const side = target.canvas.width;
  if (op.kind === "image") {
    const scale = side / Math.max(op.bitmap.width, op.bitmap.height);
    const width = op.bitmap.width * scale, height = op.bitmap.height * scale;
    target.drawImage(op.bitmap, (side - width) / 2, (side - height) / 2, width, height);
    return;
  }
  const points = op.points.map(([x, y]) => [x * side, y * side]);
  target.save();
  target.globalCompositeOperation = op.erase ? "destination-out" : "source-over";
  target.strokeStyle = "#141414";
  target.lineWidth = op.width * side;
  target.lineCap = target.lineJoin = "round";
  target.beginPath();
  target.moveTo(...points[0]);
  // Curves through the midpoints: a hand's line, not a chain of segments.
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i], [nextX, nextY] = points[i + 1];
    target.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  const [x, y] = points.at(-1);
  target.lineTo(x + 0.01, y); // not the same point again: a tap is a dot
  target.stroke();
  target.restore();
}

function repaint() {
  const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  for (const each of [canvas, layer]) each.width = each.height = side;
  const target = layer.getContext("2d");
  visible().forEach((op) => paint(target, op));
  show();
}

function show() {
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(layer, 0, 0);
  if (stroke) paint(context, stroke);
  if (cursor && document.activeElement === canvas) {
    const side = canvas.width;
    context.beginPath();
    context.arc(cursor[0] * side, cursor[1] * side, side / 80, 0, 7);
    context.fillStyle = stroke ? "#3346c4" : "#3346c466";
    context.fill();
  }
  $("paper").classList.toggle("drawn", Boolean(stroke || !isBlank()));
}

function commit(op) {
  done.push(op);
  undone = [];
  changed();
}

function changed() {
  repaint();
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
  $("clear").disabled = !visible().length;
  asked.photo = null;
  asked.k = FIRST;
  schedule();
}

function undo() {
  if (done.length) undone.push(done.pop()), changed();
}

function redo() {
  if (undone.length) done.push(undone.pop()), changed();
}

function clear() {
  if (visible().length) commit({ kind: "clear" });
}

function setTool(erase) {
  erasing = erase;
  $("pen").setAttribute("aria-pressed", !erase);
  $("eraser").setAttribute("aria-pressed", erase);
}

function newStroke(point) {
  const width = Number($("width").value) / SIDE;
  return { kind: "stroke", erase: erasing, width: erasing ? width * 2.5 : width, points: [point] };
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  cursor = null;
  stroke = newStroke(place(event));
  show();
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary || cursor) return;
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.points.push(...(events.length ? events : [event]).map(place));
  show();
  schedule();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    if (!stroke || !event.isPrimary || cursor) return;
    lift(name === "pointerup" || stroke.points.length > 4);
  });
}

function lift(keep) {
  const op = stroke;
  stroke = null;
  if (keep) commit(op);
  else show();
}

canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key];
  if (!move && event.key !== " ") return;
  event.preventDefault();
  cursor ??= [0.5, 0.5];
  if (!move) {
    if (stroke) lift(true);
    else stroke = newStroke(cursor);
  } else {
    cursor = cursor.map((at, i) => Math.min(1, Math.max(0, at + STEP * move[i])));
    stroke?.points.push(cursor);
  }
  show();
});
canvas.addEventListener("blur", () => {
  if (stroke && cursor) lift(true);
  cursor = null;
  show();
});

async function open(file) {
  if (!file) return;
  try {
    commit({ kind: "image", bitmap: await createImageBitmap(file) });
  } catch {
    say($("status"), `${file.name || "This"} is not a picture that a browser can read; try PNG or JPEG.`, "bad");
  }
}

/* Searching */

const asked = { photo: null, k: FIRST }; // `photo`: find photos like this hit
let timer = 0, waiting = 0, running = null, hits = [];

function schedule() {
  if (timer && performance.now() - waiting > LONGEST) return; // let it come
  if (!timer) waiting = performance.now();
  clearTimeout(timer);
  timer = setTimeout(search, DELAY);
}

function say(where, text, kind = "") {
  where.textContent = text;
  where.className = kind;
}

async function picture() {
  const sheet = new OffscreenCanvas(SIDE, SIDE), ink = new OffscreenCanvas(SIDE, SIDE);
  const target = ink.getContext("2d"), white = sheet.getContext("2d");
  visible().forEach((op) => paint(target, op));
  if (stroke) paint(target, stroke);
  white.fillStyle = "#fff";
  white.fillRect(0, 0, SIDE, SIDE);
  white.drawImage(ink, 0, 0);
  return sheet.convertToBlob({ type: "image/png" });
}

async function question(fields) {
  const form = new FormData();
  if (!isBlank() || (stroke && !stroke.erase)) form.append("image", await picture(), "drawing.png");
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return { method: "POST", body: form };
}

// A JSON answer; waits and asks again where the server is busy.
async function ask(url, makeOptions, signal) {
  for (let tries = 0; ; tries++) {
    const response = await fetch(url, { ...(await makeOptions()), signal });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    if (![429, 503].includes(response.status) || tries === 5) {
      const { what = `status ${response.status}`, remedy = "try again" } = answer.error ?? {};
      throw new Error(`${what}: ${remedy}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(response.headers.get("Retry-After") ?? 1)));
    signal?.throwIfAborted();
  }
}

function problem(error) {
  return error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message;
}

async function search() {
  clearTimeout(timer);
  timer = 0;
  running?.abort();
  const mine = running = new AbortController();
  const { photo, k } = asked, words = $("text").value.trim();
  if (!photo && !words && isBlank() && !(stroke && !stroke.erase)) {
    list([]);
    return say($("status"), "");
  }
  say($("status"), "Searching ...", "busy");
  $("grid").classList.add("stale");
  try {
    const found = photo
      ? await ask(`/api/similar/${photo.id}?k=${k}`, () => ({}), mine.signal)
      : await ask("/api/search", () => question(words ? { text: words, k } : { k }), mine.signal);
    if (running !== mine) return;
    list(found.hits);
    const shown = found.hits.length === 1 ? "1 photo" : `${found.hits.length} photos`;
    say($("status"), `${shown} in ${found.seconds.toFixed(found.seconds < 1 ? 2 : 1)} s, best first`);
  } catch (error) {
    if (running !== mine || error.name === "AbortError") return;
    $("grid").classList.remove("stale");
    say($("status"), problem(error), "bad");
  }
}

function list(found) {
  hits = found;
  const grid = $("grid");
  const old = new Map([...grid.children].map((item) => [item.dataset.id, item]));
  const before = new Map([...old].map(([id, item]) => [id, item.getBoundingClientRect()]));
  const items = found.map((hit, i) => label(old.get(hit.id) ?? tile(hit), hit, i));
  grid.replaceChildren(...items);
  grid.classList.remove("stale");
  $("empty").hidden = found.length > 0;
  $("more").hidden = found.length < asked.k || asked.k >= MOST;
  $("back").hidden = !asked.photo;
  $("title").textContent = asked.photo ? `Photos like ${asked.photo.name}` : "Photos";
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const item of items) { // photos that stay glide to their new place
    const was = before.get(item.dataset.id), is = item.getBoundingClientRect();
    const from = was ? { transform: `translate(${was.x - is.x}px, ${was.y - is.y}px)` } : { opacity: 0 };
    item.animate([from, {}], { duration: 260, easing: "ease-out" });
  }
}

function tile(hit) {
  const item = document.createElement("li"), button = document.createElement("button");
  const image = document.createElement("img"), caption = document.createElement("span");
  const name = document.createElement("span"), score = document.createElement("span");
  const head = document.createElement("span"), tail = document.createElement("span");
  item.dataset.id = hit.id;
  button.type = "button";
  Object.assign(image, { src: hit.thumbnail, loading: "lazy", width: 320, height: 320 });
  caption.className = "cap";
  score.className = "score";
  // A name that is too long loses its middle: the number at its end tells photos apart.
  const stem = hit.name.replace(/(.)\.[^.]*$/, "$1");
  head.textContent = stem.slice(0, -TAIL);
  tail.textContent = stem.slice(-TAIL);
  name.className = "name";
  name.append(head, tail);
  button.title = hit.name;
  name.setAttribute("aria-hidden", "true"); // the picture's text says it
  caption.append(name, score);
  button.append(image, caption);
  button.addEventListener("click", () => enlarge(hits.findIndex((h) => h.id === hit.id)));
  item.append(button);
  return item;
}

function label(item, hit, i) {
  item.querySelector("img").alt = `Photo ${i + 1}: ${hit.name}, score`;
  item.querySelector(".score").textContent = hit.score.toFixed(3);
  return item;
}

/* One photo, large */

let current = -1, explaining = null;

function enlarge(i) {
  if (!hits[i]) return;
  current = i;
  const hit = hits[i];
  explaining?.abort();
  $("view-name").textContent = hit.name;
  $("view-score").textContent = `score ${hit.score.toFixed(3)}, photo ${i + 1} of ${hits.length}`;
  $("big").src = hit.photo;
  $("big").alt = hit.name;
  $("original").href = hit.photo;
  $("previous").disabled = i === 0;
  $("next").disabled = i === hits.length - 1;
  $("explain").hidden = Boolean(asked.photo) || isBlank();
  showWhy(false);
  if (!$("view").open) $("view").showModal();
}

function showWhy(on) {
  $("why").hidden = !on;
  $("big").hidden = on;
  $("explain").setAttribute("aria-pressed", on);
  $("lines").replaceChildren();
  say($("view-status"), "");
}

async function explain() {
  if (!$("why").hidden) return showWhy(false);
  const mine = explaining = new AbortController();
  const id = hits[current].id;
  say($("view-status"), "Looking at both ...", "busy");
  try {
    const found = await ask("/api/explain", () => question({ id }), mine.signal);
    if (mine.signal.aborted) return;
    $("why-sketch").src = found.sketch;
    $("why-photo").src = found.photo;
    await Promise.all([$("why-sketch").decode(), $("why-photo").decode()]);
    showWhy(true);
    matched = found.matches;
    join();
    say($("view-status"), "Warm places made the drawing's score. Lines join places that look alike to the model.");
  } catch (error) {
    if (mine.signal.aborted) return;
    say($("view-status"), problem(error), "bad");
  }
}

let matched = [];

function join() {
  const lines = $("lines"), frame = $("why").getBoundingClientRect();
  lines.replaceChildren();
  if ($("why").hidden) return;
  lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  const at = (image, [x, y]) => {
    const box = image.getBoundingClientRect();
    return [box.x - frame.x + x * box.width, box.y - frame.y + y * box.height];
  };
  const add = (name, values) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
    lines.append(node);
  };
  for (const match of matched) {
    const [x1, y1] = at($("why-sketch"), match.sketch), [x2, y2] = at($("why-photo"), match.photo);
    for (const name of ["under", "over"]) add("line", { class: name, x1, y1, x2, y2 });
    add("circle", { cx: x1, cy: y1, r: 5 });
    add("circle", { cx: x2, cy: y2, r: 5 });
  }
}

function moreLikeThis() {
  asked.photo = hits[current];
  asked.k = FIRST;
  $("view").close();
  search();
}

/* Buttons, keys, files */

function on(id, action) {
  $(id).addEventListener("click", action);
}
on("pen", () => setTool(false));
on("eraser", () => setTool(true));
on("undo", undo);
on("redo", redo);
on("clear", clear);
on("upload", () => $("file").click());
on("more", () => { asked.k = Math.min(MOST, asked.k * 2); search(); });
on("back", () => { asked.photo = null; asked.k = FIRST; search(); });
on("previous", () => enlarge(current - 1));
on("next", () => enlarge(current + 1));
on("explain", explain);
on("similar", moreLikeThis);
on("help-open", () => $("help").showModal());
$("text").addEventListener("input", () => { asked.photo = null; schedule(); });
$("file").addEventListener("change", () => { open($("file").files[0]); $("file").value = ""; });
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  // A click on the backdrop lands on the dialog itself.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
$("view").addEventListener("close", () => {
  explaining?.abort();
  $("grid").children[current]?.querySelector("button").focus();
});

const keys = {
  p: () => setTool(false), e: () => setTool(true), o: () => $("file").click(),
  "[": () => $("width").stepDown(3), "]": () => $("width").stepUp(3),
  Delete: clear, "/": () => $("text").focus(), "?": () => $("help").showModal(),
};
document.addEventListener("keydown", (event) => {
  if ($("view").open && event.key === "ArrowLeft") enlarge(current - 1);
  if ($("view").open && event.key === "ArrowRight") enlarge(current + 1);
  const typing = event.target.matches("input[type=text]");
  if (typing || document.querySelector("dialog[open]") || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let action = keys[key];
  if (event.ctrlKey || event.metaKey) action = { z: event.shiftKey ? redo : undo, y: redo }[key];
  if (!action) return;
  event.preventDefault();
  action();
});

document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
  if (file) open(file);
});
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  open(event.dataTransfer.files[0]);
});

/* Three drawings to begin with, for those who want to see it work first */

function arc(x, y, rx, ry, from, to) {
  return Array.from({ length: 25 }, (_, i) => {
    const turn = (from + (to - from) * i / 24) * Math.PI;
    return [x + rx * Math.cos(turn), y + ry * Math.sin(turn)];
  });
}
const EXAMPLES = {
  cup: [
    arc(0.44, 0.3, 0.24, 0.07, 0, 2.02), [[0.2, 0.3], [0.22, 0.55], [0.25, 0.76]],
    arc(0.44, 0.76, 0.19, 0.06, 1, 0), [[0.68, 0.3], [0.66, 0.55], [0.63, 0.76]],
    arc(0.67, 0.49, 0.16, 0.14, -0.5, 0.55),
  ],
  boat: [
    [[0.12, 0.64], [0.88, 0.64]], [[0.12, 0.64], [0.26, 0.82], [0.74, 0.82], [0.88, 0.64]],
    [[0.5, 0.64], [0.5, 0.14]], [[0.53, 0.18], [0.78, 0.58], [0.53, 0.58]], [[0.47, 0.26], [0.27, 0.58], [0.47, 0.58]],
  ],
  tree: [
    [[0.45, 0.9], [0.46, 0.58]], [[0.56, 0.9], [0.55, 0.58]],
    arc(0.5, 0.36, 0.27, 0.25, 0.52, 2.5), [[0.5, 0.66], [0.42, 0.52]], [[0.52, 0.62], [0.6, 0.48]],
  ],
};
for (const [name, strokes] of Object.entries(EXAMPLES)) {
  const ops = strokes.map((points) => ({ kind: "stroke", erase: false, width: 7 / SIDE, points: points.flatMap(straight) }));
  const button = document.createElement("button"), small = document.createElement("canvas");
  small.width = small.height = 120;
  ops.forEach((op) => paint(small.getContext("2d"), { ...op, width: 0.03 }));
  button.type = "button";
  button.setAttribute("aria-label", `Try the drawing of a ${name}`);
  button.append(small);
  button.addEventListener("click", () => { done.push(...ops); undone = []; changed(); });
  $("examples").append(button);
}

// Corners stay sharp: a point that is there twice is no midpoint curve.
function straight(point, i, points) {
  return points.length > 8 ? [point] : [point, point];
}

new ResizeObserver(repaint).observe(canvas);
new ResizeObserver(join).observe($("why"));
fetch("/api/info").then((r) => r.json()).then(({ photos }) => {
  $("count").textContent = photos === 1 ? "1 photo" : `${photos.toLocaleString("en")} photos`;
}).catch(() => {});
