// The page of `python -m lenet_lab draw`: it sends the server what lies on the paper, and shows what comes back.
// The networks run in the server; no network is computed here.

import {
  $, clearCanvas, clearExcitation, clearPanel, grey, makeDetail, makePanel, markStale, paint, showExcitation,
  showFilter, showReading, takeColours,
} from "./panels.js";
import { clear, drawingAsPgm, picture, putDigit, putPhoto, save, startPaper, undo } from "./paper.js";

const SLIDERS = ["noise", "right", "down"];

let networks = []; // all that can be chosen
let panels = []; // one for each that is chosen
let chosen = null; // the unit whose details are shown: {panel, layer, unit, radio, element}

// The server

async function ask(address, options) {
  const response = await fetch(address, options).catch(() => {
    throw new Error("The server does not answer. Was it stopped? Start it again: python -m lenet_lab draw");
  });
  if (!response.ok) throw new Error(await response.text());
  return response;
}

const askFor = async (address, query = {}) => (await ask(`${address}?${new URLSearchParams(query)}`)).json();

function say(text) {
  if ($("#message").textContent !== text) $("#message").textContent = text; // else it would be announced again
}

// Reading. Changes that come while the server reads are read together afterwards.

let changedAt = 0; // the time of the first change that is not shown yet
let reading = false;

async function update() {
  changedAt ||= performance.now();
  if (reading) return;
  reading = true;
  $("#panels").ariaBusy = true;
  while (changedAt) {
    const start = changedAt;
    changedAt = 0;
    try {
      await read();
      performance.measure("reading", { start });
    } catch (error) {
      say(error.message);
      panels.forEach((panel) => markStale(panel, true));
    }
  }
  reading = false;
  $("#panels").ariaBusy = false;
}

async function read() {
  const [asked, unit, read] = [panels, chosen, picture];
  if (!read) return showNothing();
  if (!asked.length) return;
  const body = read.kind === "drawing" ? drawingAsPgm() : read.body;
  const response = await ask(`read?${queryFor(asked, unit, read)}`, { method: "POST", body });
  const values = new Float32Array(await response.arrayBuffer());
  if (asked === panels && unit === chosen && read === picture) show(values); // else the next reading is due
}

function queryFor(asked, unit, read) {
  const query = new URLSearchParams(asked.map((panel) => ["network", panel.path]));
  for (const name of SLIDERS) query.set(name, $(`#${name}`).value);
  if (read.kind === "digit") query.set("digit", read.number);
  if (read.kind === "photo") query.set("name", read.name);
  if (unit) {
    query.set("of", asked.indexOf(unit.panel));
    query.set("layer", unit.layer.title);
    query.set("unit", unit.unit);
  }
  return query;
}

function show(values) {
  let place = 0;
  const take = (count) => values.subarray(place, (place += count));
  const image = take(28 * 28);
  paint($("#seen"), (pixel) => grey(image[pixel]));
  for (const panel of panels) showReading(panel, take);
  if (chosen) showExcitation(chosen, image, take(28 * 28));
  const digit = picture.kind === "digit";
  say(digit ? `Test digit ${picture.number} of ${picture.data}: a ${picture.label}.` : picture.name ?? "");
  announce();
}

function showNothing() {
  clearCanvas($("#seen"));
  panels.forEach(clearPanel);
  if (chosen) clearExcitation(chosen);
  say("");
  announce();
}

// Once the hand rests, the verdicts are announced to those who can't see them.
let pause = 0;

function announce() {
  clearTimeout(pause);
  pause = setTimeout(() => ($("#announcement").textContent = panels.map((panel) => panel.verdict).join(" ")), 600);
}

// Networks

async function listNetworks() {
  ({ networks } = await askFor("networks"));
  for (const menu of [$("#network"), $("#other")]) {
    for (const { name, path } of networks) menu.add(new Option(name, path));
    menu.addEventListener("change", () => chooseNetworks().catch((error) => say(error.message)));
  }
  await chooseNetworks();
}

const chosenPaths = () => [...new Set([$("#network").value, $("#other").value].filter((path) => path))];

async function chooseNetworks() {
  const paths = chosenPaths();
  const layers = await Promise.all(paths.map((network) => askFor("layers", { network })));
  if (paths.join("\n") !== chosenPaths().join("\n")) return; // chosen anew meanwhile
  closeDetail();
  panels = paths.map((path, number) => {
    const about = networks.find((network) => network.path === path);
    return makePanel(about, layers[number].layers, openDetail);
  });
  $("#panels").replaceChildren(...panels.map((panel) => panel.element));
  update();
}

// Details of a unit

async function openDetail(unit) {
  closeDetail();
  chosen = unit;
  chosen.radio.checked = true;
  makeDetail(unit, () => {
    closeDetail();
    unit.radio.focus();
  });
  update();
  try {
    const query = { network: unit.panel.path, layer: unit.layer.title, unit: unit.unit };
    showFilter(unit, (await askFor("filter", query)).filter);
  } catch (error) {
    say(error.message);
  }
}

function closeDetail() {
  if (!chosen) return;
  chosen.element.remove();
  chosen.radio.checked = false;
  chosen = null;
}

// Buttons and sliders

async function putRandomDigit(query) {
  say("Looking for a test digit; the first time, this takes some seconds.");
  try {
    putDigit(await askFor("digit", query));
  } catch (error) {
    say(error.message);
  }
}

function showSliders() {
  for (const name of SLIDERS) $(`output[for="${name}"]`).textContent = $(`#${name}`).value;
  update();
}

function startControls() {
  $("#clear").addEventListener("click", clear);
  $("#undo").addEventListener("click", undo);
  $("#save").addEventListener("click", save);
  $("#random").addEventListener("click", () => putRandomDigit({}));
  $("#misread").addEventListener("click", () => putRandomDigit({ network: $("#network").value }));
  $("#photo").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) putPhoto(file, file.name);
    event.target.value = ""; // so that the same photo can be chosen again
  });
  for (const name of SLIDERS) $(`#${name}`).addEventListener("input", showSliders);
  $("#reset").addEventListener("click", () => {
    for (const name of SLIDERS) $(`#${name}`).value = 0;
    showSliders();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) $(".close", chosen.element).click();
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    takeColours();
    update();
  });
}

takeColours();
startControls();
startPaper(update, say);
showSliders();
listNetworks().catch((error) => say(error.message));
