// The page of `python -m lenet_lab draw`: it sends the server what lies on the paper, and shows what comes back.
// The networks run in the server; no network is computed here.

import {
  $, clearExcitation, clearPanel, makeDetail, makePanel, removeDetail, showExcitation, showFilter, showReading,
  takeColours,
} from "./panels.js";
import { clear, drawingAsPgm, picture, putDigit, putPhoto, save, startPaper, undo } from "./paper.js";

const SLIDERS = ["noise", "right", "down"];

let networks = []; // all that can be chosen
let panels = []; // one for each that is chosen
let chosen = null; // the unit whose details are shown: {panel, layer, unit, element, value}

// The server

async function ask(address, options) {
  const response = await fetch(address, options).catch(() => {
    throw new Error("The server does not answer. Was it stopped? python -m lenet_lab draw starts it again");
  });
  if (!response.ok) throw new Error(await response.text());
  return response;
}

const askFor = async (address, query = {}) => (await ask(`${address}?${new URLSearchParams(query)}`)).json();

// Messages

function say(text) {
  const sentence = text && !text.endsWith(".") ? `${text}.` : text; // the server's have no full stop
  if ($("#message").textContent !== sentence) $("#message").textContent = sentence; // else it would be announced again
}

// Announces a text to those who can't see the page, once the hand rests.
let pause = 0;

function speak(text) {
  clearTimeout(pause);
  pause = setTimeout(() => ($("#announcement").textContent = text), 600);
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
      showNothing();
      say(error.message);
    }
  }
  reading = false;
  $("#panels").ariaBusy = false;
}

async function read() {
  const [asked, unit, laid] = [panels, chosen, picture];
  if (!laid || !asked.length) return showNothing();
  const body = laid.kind === "drawing" ? drawingAsPgm() : laid.body;
  const response = await ask(`read?${queryFor(asked, unit, laid)}`, { method: "POST", body });
  const values = new Float32Array(await response.arrayBuffer());
  if (asked !== panels || unit !== chosen || laid !== picture) return; // the next reading is due
  const expected = 28 * 28 * (unit ? 2 : 1) + asked.reduce((sum, panel) => sum + panel.size, 0);
  if (values.length !== expected) throw new Error("A network was saved again meanwhile. Reload the page");
  show(values);
}

function queryFor(asked, unit, laid) {
  const query = new URLSearchParams(asked.map((panel) => ["network", panel.path]));
  for (const name of SLIDERS) query.set(name, $(`#${name}`).value);
  if (laid.kind === "digit") query.set("digit", laid.number);
  if (laid.kind === "photo") query.set("name", laid.name);
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
  for (const panel of panels) showReading(panel, image, take);
  if (chosen) showExcitation(chosen, image, take(28 * 28));
  say(describePicture());
  speak([...panels.map((panel) => panel.verdict), chosen?.value].join(" "));
}

function describePicture() {
  const { kind, number, data, label, name } = picture;
  const what = kind === "digit" ? `Test digit ${number} of ${data}, labelled ${label}.` : name ? `${name}.` : "";
  const harder = SLIDERS.some((slider) => Number($(`#${slider}`).value));
  return harder ? `${what} Made harder by noise or a shift.`.trim() : what;
}

function showNothing() {
  panels.forEach(clearPanel);
  if (chosen) clearExcitation(chosen);
  say("");
  speak("");
}

// Networks

async function listNetworks() {
  ({ networks } = await askFor("networks"));
  for (const menu of [$("#network"), $("#other")]) {
    for (const { place, title, data, path } of networks) menu.add(new Option(`${place}: ${title}, trained on ${data}`, path));
    menu.addEventListener("change", changeNetworks);
  }
  await chooseNetworks();
}

const chosenPaths = () => [$("#network").value, $("#other").value].filter((path) => path);

async function changeNetworks() {
  try {
    await chooseNetworks();
  } catch (error) {
    // What was chosen before stays.
    [$("#network").value, $("#other").value] = [panels[0]?.path ?? "", panels[1]?.path ?? ""];
    say(error.message);
  }
}

async function chooseNetworks() {
  for (const option of $("#other").options) option.disabled = option.value === $("#network").value;
  if ($("#other").selectedOptions[0].disabled) $("#other").value = "";
  const paths = chosenPaths();
  const layers = await Promise.all(paths.map((network) => askFor("layers", { network })));
  if (paths.join("\n") !== chosenPaths().join("\n")) return; // chosen anew meanwhile
  const open = chosen;
  closeDetail();
  panels = paths.map((path, number) => {
    const about = networks.find((network) => network.path === path);
    return makePanel(about, layers[number].layers, clickUnit);
  });
  $("#panels").replaceChildren(...panels.map((panel) => panel.element));
  if (open) openAgain(open);
  update();
}

// Details of a unit

function clickUnit(unit) {
  const same = chosen?.layer === unit.layer && chosen.unit === unit.unit;
  closeDetail();
  if (!same) openDetail(unit); // a second click closes it
}

function openDetail(unit) {
  chosen = unit;
  makeDetail(unit, leaveDetail);
  update();
  const query = { network: unit.panel.path, layer: unit.layer.title, unit: unit.unit };
  askFor("filter", query).then(({ filter }) => showFilter(unit, filter), (error) => say(error.message));
}

// Opens a unit of the same place after other networks were chosen: in the same network, or else in the first one.
function openAgain({ panel: { path }, layer: { title }, unit }) {
  const panel = panels.find((panel) => panel.path === path) ?? panels[0];
  const layer = panel.layers.find((layer) => layer.title === title);
  if (layer?.units[unit]) openDetail({ panel, layer, unit });
}

function closeDetail() {
  if (chosen) removeDetail(chosen);
  chosen = null;
}

// Closes the details; the focus goes back to the unit if it was in them.
function leaveDetail() {
  const { layer, unit, element } = chosen;
  const inside = element.contains(document.activeElement);
  closeDetail();
  if (inside) $("input", layer.units[unit]).focus();
}

// Buttons and sliders

async function putRandomDigit(query) {
  say("Looking for a test digit. The first time, this takes some seconds.");
  const before = picture;
  try {
    const digit = await askFor("digit", query);
    if (picture === before) putDigit(digit); // else something was drawn meanwhile
  } catch (error) {
    say(error.message);
  }
}

function showSliders() {
  for (const name of SLIDERS) $(`output[for="${name}"]`).textContent = $(`#${name}`).value;
  update();
}

function resetSliders() {
  for (const name of SLIDERS) $(`#${name}`).value = 0;
  showSliders();
}

function startControls() {
  $("#clear").addEventListener("click", clear);
  $("#undo").addEventListener("click", undo);
  $("#save").addEventListener("click", save);
  $("#random").addEventListener("click", () => putRandomDigit({}));
  $("#misread").addEventListener("click", () => {
    resetSliders();
    putRandomDigit({ network: $("#network").value });
  });
  $("#photo").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) putPhoto(file, file.name);
    event.target.value = ""; // so that the same photo can be chosen again
  });
  for (const name of SLIDERS) $(`#${name}`).addEventListener("input", showSliders);
  $("#reset").addEventListener("click", resetSliders);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) leaveDetail();
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    takeColours();
    update();
  });
}

takeColours();
startControls();
startPaper({ onChange: update, onMessage: say, onSpeech: speak });
showSliders();
listNetworks().catch((error) => say(error.message));
