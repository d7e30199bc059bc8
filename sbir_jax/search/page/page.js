// The drawing page: strokes in, photos out. No library, no build step.
//
// What is asked for, but for the drawing, stands in the address behind "#", which no
// server ever sees: words, like (id of a photo), name (its file's), folder, raw, and
// order: whether the words put the first photos in a new order. An imagined photo that is
// asked with, {source, number}, is too long for an address: the tab's history keeps it.

import { isChosen, tick } from "/chosen.js";
import * as imagining from "/imagined.js";
import { ask, drawingIn, form, problem, say } from "/server.js";
import * as sheet from "/sheet.js";
import * as viewer from "/viewer.js";

const DELAY = 400; // ms of rest before a search
const LONGEST = 1500; // ms that a search waits while the pen never rests
const FIRST = 24, MOST = 200; // photos asked for
const TAIL = 5; // characters at the end of a file's name that are always shown
const SLOW = 900; // ms after which one looks whether words wait for their model

const $ = (id) => document.getElementById(id);

/* What is asked for */

let k = FIRST, timer = 0, waiting = 0, running = null, hits = [];

function asked() {
  const fields = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return { ...fields, imagined: history.state };
}

// Changes what is asked for; with `push`, Back returns to what it was.
function change(changes, push = false) {
  const { imagined, ...all } = { ...asked(), ...changes };
  const fields = Object.entries(all).filter(([, value]) => value);
  const hash = fields.length ? `#${new URLSearchParams(fields)}` : location.pathname;
  if (push) history.pushState(imagined, "", hash);
  else history.replaceState(imagined, "", hash);
}

const NONE = { like: "", name: "", imagined: null }; // no photo is asked with

// Fields and words as the address has them, then a search.
function follow() {
  const { words = "", folder = "", raw, order } = asked();
  $("text").value = words;
  showFolder(folder);
  $("tidy").checked = !raw;
  $("order").checked = order;
  k = FIRST;
  search();
}

function showFolder(folder) {
  if (![...$("folder").options].some((option) => option.value === folder)) {
    $("folder").add(new Option(folder, folder));
    $("folders").hidden = false;
  }
  $("folder").value = folder;
}

/* Searching */

function schedule() {
  imagining.forget();
  if (timer && performance.now() - waiting > LONGEST) return; // let it come
  if (!timer) waiting = performance.now();
  clearTimeout(timer);
  timer = setTimeout(search, DELAY);
}

async function question({ words, folder = "", raw, order }) {
  const fields = { k, folder, prepare: !raw, show_prepared: true };
  if (words) fields.text = words;
  if (words && order) fields.rerank_text = FIRST;
  if ($("close").checked && !sheet.isBlank()) fields.rerank = FIRST;
  return form(fields, sheet.isBlank() ? null : await sheet.picture(), "drawing.png");
}

// A photo that was imagined, as the question.
function questionWith({ imagined, folder = "" }) {
  const body = JSON.stringify({ image: imagined.source, modality: "photo", k, folder });
  return { method: "POST", headers: { "Content-Type": "application/json" }, body };
}

async function search() {
  clearTimeout(timer);
  timer = 0;
  running?.abort();
  const mine = running = new AbortController();
  const typed = $("text").value.trim();
  if (typed !== (asked().words ?? "")) change({ words: typed });
  const { words, like, imagined, folder = "" } = asked();
  const withPhoto = like || imagined;
  if (!withPhoto && !words && sheet.isBlank()) {
    list([]);
    imagining.hide();
    showSeen(null);
    return say($("status"), "");
  }
  say($("status"), "Searching ...", "busy");
  $("grid").classList.add("stale");
  const look = words && !withPhoto ? setTimeout(() => tellWords(mine), SLOW) : 0;
  try {
    const place = new URLSearchParams({ k, folder });
    const found = like
      ? await ask(`/api/similar/${encodeURIComponent(like)}?${place}`, () => ({}), mine.signal)
      : await ask("/api/search", () => imagined ? questionWith(asked()) : question(asked()), mine.signal);
    if (running !== mine) return;
    list(found.hits);
    showSeen(found.prepared);
    if (!withPhoto && sheet.isBlank()) imagining.hide();
    else if (!withPhoto && !sheet.isDrawing()) imagining.show(asked());
    const shown = found.hits.length === 1 ? "1 photo" : `${found.hits.length} photos`;
    say($("status"), `${shown} in ${found.seconds.toFixed(found.seconds < 1 ? 2 : 1)} s, best first`);
  } catch (error) {
    if (running !== mine || error.name === "AbortError") return;
    $("grid").classList.remove("stale");
    showSeen(null);
    say($("status"), problem(error), "bad");
  } finally {
    clearTimeout(look);
    if (running === mine) running = null;
  }
}

// The first words load most of the model: how far that is, as long as they wait.
async function tellWords(mine) {
  const steps = { loading: "step 1 of 2, reading it", compiling: "step 2 of 2, preparing it" };
  while (running === mine) {
    const { stage, seconds } = await ask("/api/words", () => ({}), mine.signal).catch(() => ({}));
    if (running !== mine || !steps[stage]) return;
    const text = `Loading the model that reads words: ${steps[stage]}, ${Math.round(seconds)} s. Only the first words wait for it.`;
    say($("status"), text, "busy");
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function showSeen(prepared) {
  $("seen-picture").hidden = !prepared;
  if (prepared) $("seen-picture").src = prepared;
}

function list(found) {
  hits = found;
  const grid = $("grid"), { like, name, imagined, folder } = asked();
  const old = new Map([...grid.children].map((item) => [item.dataset.id, item]));
  const before = new Map([...old].map(([id, item]) => [id, item.getBoundingClientRect()]));
  const items = found.map((hit, i) => label(old.get(hit.id) ?? tile(hit), hit, i));
  grid.replaceChildren(...items);
  grid.classList.remove("stale");
  $("empty").hidden = found.length > 0 || Boolean(like || imagined);
  $("more").hidden = found.length < k || k >= MOST;
  $("back").hidden = !(like || imagined);
  $("title").textContent = like ? `Photos like ${name ?? "this one"}` : "Photos";
  if (imagined) $("title").textContent = `Photos like imagined photo ${imagined.number}`;
  if (folder) $("title").textContent += ` in ${folder}`;
  imagining.mark(imagined?.number);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const item of items) { // photos that stay glide to their new place
    const was = before.get(item.dataset.id), is = item.getBoundingClientRect();
    const from = was ? { transform: `translate(${was.x - is.x}px, ${was.y - is.y}px)` } : { opacity: 0 };
    item.animate([from, {}], { duration: 260, easing: "ease-out" });
  }
}

function tile(hit) {
  const node = (tag, name = "", text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
  const item = node("li"), button = node("button"), box = node("input", "tick");
  const image = node("img"), caption = node("span", "cap"), name = node("span", "name");
  item.dataset.id = hit.id;
  button.type = "button";
  Object.assign(image, { src: hit.thumbnail, loading: "lazy", width: 320, height: 320 });
  // A name that is too long loses its middle: the number at its end tells photos apart.
  const stem = hit.name.replace(/(.)\.[^.]*$/, "$1");
  name.append(node("span", "", stem.slice(0, -TAIL)), node("span", "", stem.slice(-TAIL)));
  button.title = hit.name;
  name.setAttribute("aria-hidden", "true"); // the picture's text says it
  caption.append(name, node("span", "score"));
  button.append(image, caption);
  button.addEventListener("click", () => viewer.enlarge(hits, hits.findIndex((h) => h.id === hit.id)));
  Object.assign(box, { type: "checkbox", value: hit.id, checked: isChosen(hit), title: "Select" });
  box.setAttribute("aria-label", `Select ${hit.name}`);
  box.addEventListener("change", () => tick(hit, box.checked));
  item.append(button, box);
  return item;
}

function label(item, hit, i) {
  const copies = hit.copies ? `, ${hit.copies === 1 ? "1 copy" : `${hit.copies} copies`} not shown` : "";
  item.querySelector("img").alt = `Photo ${i + 1}: ${hit.name}${copies}, ${hit.above === null ? "score" : "stands out by"}`;
  item.querySelector(".score").textContent = viewer.standing(hit);
  return item;
}

// A drawing or words have changed: no photo is asked with any more.
function another() {
  if (asked().like || asked().imagined) change(NONE);
  k = FIRST;
  schedule();
}

function moreLike(hit) {
  k = FIRST;
  change({ ...NONE, like: hit.id, name: hit.name }, true);
  search();
}

function likeImagined(imagined) {
  k = FIRST;
  change({ ...NONE, imagined }, true);
  search();
}

function onlyInside(folder) {
  change({ folder }, true);
  follow();
}

/* Buttons, keys, files */

async function open(file) {
  if (!file) return;
  say($("status"), `Reading ${file.name || "the picture"} ...`, "busy");
  try {
    await sheet.place(await drawingIn(file, !asked().raw));
  } catch (error) {
    say($("status"), `${file.name || "The picture"}: ${problem(error)}`, "bad");
  }
}

function on(id, action) {
  $(id).addEventListener("click", action);
}
on("pen", () => sheet.setTool(false));
on("eraser", () => sheet.setTool(true));
on("undo", sheet.undo);
on("redo", sheet.redo);
on("clear", sheet.clear);
on("upload", () => $("file").click());
on("more", () => { k = Math.min(MOST, k * 2); search(); });
on("back", () => { change(NONE, true); follow(); });
on("help-open", () => $("help").showModal());
$("text").addEventListener("input", another);
$("folder").addEventListener("change", () => onlyInside($("folder").value));
$("order").addEventListener("change", () => { change({ order: $("order").checked ? "1" : "" }); search(); });
$("tidy").addEventListener("change", () => { change({ raw: $("tidy").checked ? "" : "1" }); search(); });
$("file").addEventListener("change", () => { open($("file").files[0]); $("file").value = ""; });
window.addEventListener("popstate", follow);
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  // A click on the backdrop lands on the dialog itself.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

const keys = {
  p: () => sheet.setTool(false), e: () => sheet.setTool(true), o: () => $("file").click(),
  "[": () => $("width").stepDown(3), "]": () => $("width").stepUp(3),
  Delete: sheet.clear, "/": () => $("text").focus(), "?": () => $("help").showModal(),
};
document.addEventListener("keydown", (event) => {
  if ($("view").open && event.key === "ArrowLeft") viewer.step(-1);
  if ($("view").open && event.key === "ArrowRight") viewer.step(1);
  const typing = event.target.matches("input[type=text], select");
  if (typing || document.querySelector("dialog[open]") || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let action = keys[key];
  if (event.ctrlKey || event.metaKey) action = { z: event.shiftKey ? sheet.redo : sheet.undo, y: sheet.redo }[key];
  if (!action) return;
  event.preventDefault();
  action();
});

document.addEventListener("paste", (event) => {
  const file = event.clipboardData.files[0];
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

/* Some drawings to begin with, for those who want to see it work first */

function example(name, lines) {
  const ops = lines.map((points) => ({ kind: "stroke", erase: false, width: 7 / sheet.SIDE, points }));
  const button = document.createElement("button"), small = document.createElement("canvas");
  small.width = small.height = 120;
  ops.forEach((op) => sheet.paint(small.getContext("2d"), { ...op, width: 0.03 }));
  button.type = "button";
  button.setAttribute("aria-label", `Try the drawing of a ${name}`);
  button.append(small);
  button.addEventListener("click", () => sheet.commit(...ops));
  $("examples").append(button);
}

const empty = () => ({});
ask("/examples.json", empty).then((all) => Object.entries(all).forEach(([name, lines]) => example(name, lines)));
$("close").addEventListener("change", search);
const info = ask("/api/info", empty);
info.then(({ photos, reranker }) => {
  $("closer").hidden = !reranker;
  $("count").textContent = photos === 1 ? "1 photo" : `${photos.toLocaleString("en")} photos`;
}).catch(() => {});
imagining.start(info.then(({ imaginer }) => imaginer, () => false), likeImagined);
ask("/api/folders", empty).then((folders) => {
  const { folder = "" } = asked();
  const options = folders.slice(1).map(({ name, photos }) => new Option(`${name} (${photos.toLocaleString("en")})`, name));
  $("folder").replaceChildren(new Option("all folders", ""), ...options);
  $("folders").hidden = !options.length;
  showFolder(folder);
}).catch(() => {});
viewer.start(asked, moreLike, onlyInside);
await sheet.start(another, schedule);
follow();
