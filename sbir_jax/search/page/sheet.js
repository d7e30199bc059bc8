// The sheet: strokes and pictures, undone and redone, kept over a reload.
// Positions and widths are in [0, 1] of the sheet, so any size can be drawn.

export const SIDE = 512; // pixels of the picture that is sent
const STEP = 0.02; // arrow keys, in sheets
const KEPT = "sbir-sheet"; // name in the tab's own storage

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), context = canvas.getContext("2d");
const layer = document.createElement("canvas"); // everything but the stroke under way

// What was done to the sheet; undo moves an entry from `done` to `undone`.
let done = [], undone = [], stroke = null;
let erasing = false, cursor = null;
let whenChanged = () => {}, whenMoving = () => {};

// Calls `drawn` after every change, `moving` while the pen is down.
export async function start(drawn, moving) {
  [whenChanged, whenMoving] = [drawn, moving];
  await restore();
  new ResizeObserver(repaint).observe(canvas);
}

function visible() {
  return done.slice(done.findLastIndex((op) => op.kind === "clear") + 1);
}

// Whether there is nothing on it; an eraser leaves nothing.
export function isBlank() {
  return !visible().some((op) => op.kind === "image" || !op.erase) && !(stroke && !stroke.erase);
}

// Whether a stroke is under way.
export function isDrawing() {
  return Boolean(stroke);
}

export function paint(target, op) {
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

export function commit(...ops) {
  done.push(...ops);
  undone = [];
  changed();
}

function changed() {
  repaint();
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
  $("clear").disabled = !visible().length;
  keep();
  whenChanged();
}

export function undo() {
  if (done.length) undone.push(done.pop()), changed();
}

export function redo() {
  if (undone.length) done.push(undone.pop()), changed();
}

export function clear() {
  if (visible().length) commit({ kind: "clear" });
}

export function setTool(erase) {
  erasing = erase;
  $("pen").setAttribute("aria-pressed", !erase);
  $("eraser").setAttribute("aria-pressed", erase);
}

/* Kept in the tab: a reload shows the same sheet, a new tab an empty one. */

function keep() {
  // A bitmap cannot be written; its picture can.
  const ops = visible().map(({ bitmap, ...op }) => op);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(ops));
  } catch {
    sessionStorage.removeItem(KEPT); // full, or not allowed: the sheet is not kept
  }
}

async function restore() {
  try {
    const ops = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    for (const op of ops) if (op.kind === "image") op.bitmap = await bitmapOf(op.source);
    done = ops;
  } catch {
    done = [];
  }
  for (const [id, on] of [["undo", done.length], ["clear", visible().length]]) $(id).disabled = !on;
}

async function bitmapOf(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

// Puts a picture, a data: URL, on the sheet.
export async function place(source) {
  commit({ kind: "image", source, bitmap: await bitmapOf(source) });
}

// The sheet in black on white, as a PNG.
export async function picture() {
  const sheet = new OffscreenCanvas(SIDE, SIDE), ink = new OffscreenCanvas(SIDE, SIDE);
  const target = ink.getContext("2d"), white = sheet.getContext("2d");
  visible().forEach((op) => paint(target, op));
  if (stroke) paint(target, stroke);
  white.fillStyle = "#fff";
  white.fillRect(0, 0, SIDE, SIDE);
  white.drawImage(ink, 0, 0);
  return sheet.convertToBlob({ type: "image/png" });
}

/* Pen, finger, keys */

function newStroke(point) {
  const width = Number($("width").value) / SIDE;
  return { kind: "stroke", erase: erasing, width: erasing ? width * 2.5 : width, points: [point] };
}

function where(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  cursor = null;
  stroke = newStroke(where(event));
  show();
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary || cursor) return;
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.points.push(...(events.length ? events : [event]).map(where));
  show();
  whenMoving();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    if (!stroke || !event.isPrimary || cursor) return;
    lift(name === "pointerup" || stroke.points.length > 4);
  });
}

function lift(keeping) {
  const op = stroke;
  stroke = null;
  if (keeping) commit(op);
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
