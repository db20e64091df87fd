// The paper: a drawing, a photo or a test digit lies on it. Points are in units of 1/280 of its side.

const MAX_BODY = 1_000_000; // bytes of a picture, as in server.py
const SIDE = 280; // of the paper, and of the picture of it that the server reads
const MARGIN = 26; // around the paper in that picture: `predict` takes the border for the background
const PEN_WIDTH = 20; // of a digit as high as the paper; MNIST's strokes are about as wide
const KEY_STEP = 10; // for each press of an arrow key
const PHOTO_SIDE = 800; // pixels, to which a photo of more than MAX_BODY is reduced
const MOST_UNDO = 100;

// null, {kind: "drawing", strokes}, {kind: "photo", body, name, bitmap} or {kind: "digit", number, label, data, pixels};
// a stroke is an array of points [x, y]
export let picture = null;

let past = []; // what lay there before, for `undo`
let changed = () => {};
let say = () => {};
let speak = () => {};

const canvas = document.querySelector("#canvas");
const screen = canvas.getContext("2d"); // what one sees
screen.scale(canvas.width / SIDE, canvas.height / SIDE);
const copy = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true }); // what the server reads
const shrink = 1 - (2 * MARGIN) / SIDE;

// `onChange` is called after each change, `onMessage` with a text to show, `onSpeech` with one to announce only.
export function startPaper({ onChange, onMessage, onSpeech }) {
  [changed, say, speak] = [onChange, onMessage, onSpeech];
  canvas.addEventListener("pointerdown", startStroke);
  canvas.addEventListener("pointermove", goOn);
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (drawing = false));
  canvas.addEventListener("keydown", pressKey);
  canvas.addEventListener("focus", showPen);
  canvas.addEventListener("blur", () => (pen.hidden = true));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", takeFile);
  document.addEventListener("paste", takeFile);
  lay(null);
}

// Puts something new on the paper.
function put(next) {
  past = [...past, picture].slice(-MOST_UNDO);
  lay(next);
}

export function clear() {
  if (picture) put(null);
}

export function undo() {
  lay(past.pop() ?? null);
}

function lay(what) {
  picture = what;
  liftPen();
  for (const context of [screen, copy]) {
    context.fillStyle = "white";
    context.fillRect(0, 0, SIDE, SIDE);
  }
  picture?.strokes?.forEach(drawStroke);
  picture?.pixels?.forEach(drawPixel);
  if (picture?.bitmap) drawPhoto(picture.bitmap);
  document.querySelector("#hint").hidden = picture !== null;
  changed();
}

export const putDigit = (digit) => put({ kind: "digit", ...digit });

export async function putPhoto(file, name) {
  const before = picture;
  const bitmap = await createImageBitmap(file).catch(() => null); // turned upright; null if the browser can't read it
  const body = file.size > MAX_BODY && bitmap ? await reduce(bitmap) : file;
  if (body.size > MAX_BODY) return say(`${name} has more than 1 MB, and this browser can't reduce it. Make it smaller.`);
  if (picture === before) put({ kind: "photo", body, name, bitmap }); // else something was drawn meanwhile
}

// The drawing as the server reads it: its grey values behind a short header (PGM). They are those of the PNG that
// `save` gives, but a browser makes a PNG only when it has nothing else to do, which while one draws is late.
export function drawingAsPgm() {
  const { data } = copy.getImageData(0, 0, SIDE, SIDE);
  const grey = new Uint8Array(SIDE * SIDE).map((_, pixel) => data[4 * pixel]);
  return new Blob([`P5 ${SIDE} ${SIDE} 255\n`, grey]);
}

export async function save() {
  if (picture?.kind !== "drawing") return say("There is no drawing to save. Draw a digit first.");
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(await copy.canvas.convertToBlob()), download: "digit.png" });
  link.click();
  URL.revokeObjectURL(link.href);
}

function drawStroke(points) {
  for (const context of [screen, copy]) {
    context.save();
    if (context === copy) context.transform(shrink, 0, 0, shrink, MARGIN, MARGIN);
    Object.assign(context, { lineWidth: PEN_WIDTH, lineCap: "round", lineJoin: "round", strokeStyle: "black" });
    context.beginPath();
    context.moveTo(...points[0]);
    points.forEach((point) => context.lineTo(...point)); // from the first point to itself: a dot
    context.stroke();
    context.restore();
  }
}

function drawPixel(ink, pixel) {
  const side = SIDE / 28;
  screen.fillStyle = `rgb(${255 - ink} ${255 - ink} ${255 - ink})`;
  screen.fillRect((pixel % 28) * side, Math.floor(pixel / 28) * side, side, side);
}

function drawPhoto(bitmap) {
  const scale = SIDE / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  screen.drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
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
  const { files } = event.dataTransfer ?? event.clipboardData;
  if (event.type === "paste" && !files.length) return; // text, for example
  event.preventDefault();
  if (files.length !== 1) return say(`That is ${files.length} files. Drop or paste one photo of a digit.`);
  putPhoto(files[0], event.type === "paste" ? "The pasted picture" : files[0].name);
}

// Strokes

function newStroke(point) {
  put({ kind: "drawing", strokes: [...(picture?.strokes ?? []), [point]] });
}

function lengthen(point) {
  const stroke = picture.strokes.at(-1);
  drawStroke([stroke.at(-1), point]);
  stroke.push(point);
  changed();
}

function liftPen() {
  drawing = false;
  pen.classList.remove("down");
}

// With the mouse, a pen or a finger

let drawing = false;

function startStroke(event) {
  if (!event.isPrimary || event.button !== 0) return; // a second finger, another button
  canvas.setPointerCapture(event.pointerId);
  newStroke(pointOf(event));
  drawing = true;
}

function goOn(event) {
  if (!event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? []; // what the pointer did since the last frame
  for (const each of events.length ? events : [event]) if (drawing) lengthen(pointOf(each));
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(
    (share) => SIDE * Math.min(1, Math.max(0, share)),
  );
}

// With the keyboard

const pen = document.querySelector("#pen"); // where it is
const place = [SIDE / 2, SIDE / 2];
const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pressKey(event) {
  const down = pen.classList.contains("down");
  if (event.key === " ") {
    if (down) liftPen();
    else newStroke([...place]);
    pen.classList.toggle("down", !down);
    speak(down ? "The pen is up." : "The pen is down.");
  } else if (event.key in moves) {
    moves[event.key].forEach((step, axis) => {
      place[axis] = Math.min(SIDE, Math.max(0, place[axis] + KEY_STEP * step));
    });
    if (down) lengthen([...place]);
  } else return;
  event.preventDefault(); // of scrolling
  showPen();
}

function showPen() {
  pen.hidden = !canvas.matches(":focus-visible"); // not for those who draw with a mouse
  Object.assign(pen.style, { left: `${(100 * place[0]) / SIDE}%`, top: `${(100 * place[1]) / SIDE}%` });
}
