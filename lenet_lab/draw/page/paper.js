// The paper: a drawing, a photo or a test digit. `picture` says which, and `picture.body` is what the server reads.

const MAX_BODY = 1_000_000; // bytes, as in server.py
const PEN_WIDTH = 20; // of the paper's 280; MNIST's strokes are about as wide
const KEY_STEP = 10; // of the paper's 280, for each press of an arrow key
const PHOTO_SIDE = 800; // pixels, to which a photo of more than MAX_BODY is reduced

const canvas = document.querySelector("#canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const pen = document.querySelector("#pen");

// null, {kind: "drawing"}, {kind: "photo", body, name} or {kind: "digit", number, label, data}
export let picture = null;

let strokes = []; // of the drawing: arrays of points [x, y]
let changed = () => {};
let say = () => {};

export function startPaper(onChange, onMessage) {
  [changed, say] = [onChange, onMessage];
  canvas.addEventListener("pointerdown", startStroke);
  canvas.addEventListener("pointermove", goOn);
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (drawing = false));
  canvas.addEventListener("keydown", pressKey);
  canvas.addEventListener("focus", showPen);
  canvas.addEventListener("blur", () => (pen.hidden = true));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", takeFile);
  document.addEventListener("paste", takeFile);
  clear();
}

export function clear() {
  strokes = [];
  put(null);
}

export function undo() {
  if (picture?.kind !== "drawing" || strokes.length < 2) return clear();
  strokes.pop();
  put({ kind: "drawing" });
  strokes.forEach(drawStroke);
}

// The drawing as the server reads it: its grey values behind a short header (PGM). They are those of the PNG that
// `save` gives, but a browser makes a PNG when it has nothing else to do, which while one draws is late.
export function drawingAsPgm() {
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const grey = new Uint8Array(data.length / 4).map((_, pixel) => data[4 * pixel]);
  return new Blob([`P5 ${canvas.width} ${canvas.height} 255\n`, grey]);
}

export async function save() {
  if (picture?.kind !== "drawing") return say("There is no drawing to save. Draw a digit first.");
  const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(png), download: "digit.png" });
  link.click();
  URL.revokeObjectURL(link.href);
}

export function putDigit(digit) {
  strokes = [];
  put({ kind: "digit", ...digit });
  digit.pixels.forEach((ink, pixel) => {
    context.fillStyle = `rgb(${255 - ink} ${255 - ink} ${255 - ink})`;
    const side = canvas.width / 28;
    context.fillRect((pixel % 28) * side, Math.floor(pixel / 28) * side, side, side);
  });
}

export async function putPhoto(file, name) {
  const bitmap = await createImageBitmap(file).catch(() => null); // turned upright; null if the browser can't read it
  const body = file.size > MAX_BODY && bitmap ? await reduce(bitmap) : file;
  if (body.size > MAX_BODY) return say(`${name} has more than 1 MB, and this browser can't reduce it. Make it smaller.`);
  strokes = [];
  put({ kind: "photo", body, name });
  if (bitmap) drawInside(context, bitmap, canvas.width);
}

// Empties the paper and puts something new on it.
function put(what) {
  picture = what;
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  document.querySelector("#hint").hidden = picture !== null;
  changed();
}

function drawInside(target, bitmap, side) {
  const scale = side / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  target.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
}

async function reduce(bitmap) {
  const scale = PHOTO_SIDE / Math.max(bitmap.width, bitmap.height);
  const small = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const target = small.getContext("2d");
  target.fillStyle = "white"; // behind what is transparent
  target.fillRect(0, 0, small.width, small.height);
  target.drawImage(bitmap, 0, 0, small.width, small.height);
  return small.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

// A file that was dropped or pasted.
function takeFile(event) {
  const files = (event.dataTransfer ?? event.clipboardData).files;
  if (event.type === "paste" && !files.length) return; // text, for example
  event.preventDefault();
  if (files.length !== 1) return say(`${files.length} files were dropped. Drop one photo of a digit.`);
  putPhoto(files[0], event.type === "paste" ? "the pasted picture" : files[0].name);
}

// Drawing with mouse, pen or finger

let drawing = false;

function startStroke(event) {
  if (!event.isPrimary || event.button !== 0) return; // a second finger, another button
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  newStroke(pointOf(event));
}

function goOn(event) {
  if (!drawing || !event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? []; // what the pointer did since the last frame
  for (const each of events.length ? events : [event]) lengthen(pointOf(each));
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * canvas.width) / box.width,
    ((event.clientY - box.top) * canvas.height) / box.height,
  ];
}

function newStroke(point) {
  if (picture?.kind !== "drawing") {
    strokes = [];
    put({ kind: "drawing" });
  }
  strokes.push([point]);
  drawStroke([point]);
  changed();
}

function lengthen(point) {
  const stroke = strokes.at(-1);
  drawStroke([stroke.at(-1), point]);
  stroke.push(point);
  changed();
}

function drawStroke(points) {
  Object.assign(context, { lineWidth: PEN_WIDTH, lineCap: "round", lineJoin: "round", strokeStyle: "black" });
  context.beginPath();
  context.moveTo(...points[0]);
  points.forEach((point) => context.lineTo(...point));
  context.stroke();
}

// Drawing with the keyboard

const place = [canvas.width / 2, canvas.height / 2]; // of the pen
const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pressKey(event) {
  if (event.key === " ") {
    pen.classList.toggle("down");
    if (pen.classList.contains("down")) newStroke([...place]);
  } else if (event.key in moves) {
    moves[event.key].forEach((step, axis) => {
      place[axis] = Math.min(canvas.width, Math.max(0, place[axis] + KEY_STEP * step));
    });
    if (pen.classList.contains("down")) lengthen([...place]);
  } else return;
  event.preventDefault(); // of scrolling
  showPen();
}

function showPen() {
  pen.hidden = !canvas.matches(":focus-visible"); // not for those who draw with a mouse
  Object.assign(pen.style, {
    left: `${(100 * place[0]) / canvas.width}%`,
    top: `${(100 * place[1]) / canvas.height}%`,
  });
}
