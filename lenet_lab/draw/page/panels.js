// The panels: for each network its verdict, the probabilities, the outputs of its layers, and details of one unit.

export const $ = (selector, root = document) => root.querySelector(selector);

const WHITE = [255, 255, 255];
const RED = [178, 24, 43];
const BLUE = [33, 102, 172];
const PALE = [200, 200, 200];

const copyOf = (template) => $(template).content.cloneNode(true).firstElementChild;
const isLogits = (layer) => layer.title.endsWith("logits");
const isMap = (layer) => layer.shape.length === 3;
const sizeOf = (layer) => (isMap(layer) ? layer.shape.slice(0, 2) : [1, 1]); // rows and columns of a unit
const unitsOf = (layer) => layer.shape.at(-1);
const valuesOf = (layer) => layer.shape.reduce((product, side) => product * side);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;

// `about` is what the server tells of the network; `open` is called with the unit that is clicked.
export function makePanel(about, layers, open) {
  const element = copyOf("#panel");
  const panel = { path: about.path, place: about.place, layers, element };
  panel.size = layers.reduce((sum, layer) => sum + valuesOf(layer), 10); // of the server's answer; 10 probabilities
  $("h2", element).textContent = about.place;
  const tested = about.test_accuracy === null ? "" : `; reads ${percent(about.test_accuracy, 2)} of its test digits correctly`;
  $(".about", element).textContent = `${about.title}, trained on ${about.data}${tested}.`;
  for (let digit = 0; digit < 10; digit++) {
    const row = copyOf("#bar");
    $(".class", row).textContent = digit;
    $(".bars", element).append(row);
  }
  for (const layer of layers) $(".layers", element).append(makeLayer(panel, layer, open));
  return panel;
}

function makeLayer(panel, layer, open) {
  layer.element = copyOf("#layer");
  const [rows, columns] = sizeOf(layer);
  layer.element.dataset.columns = columns;
  const units = isMap(layer) ? `maps of ${rows}x${columns}` : "values";
  $("legend", layer.element).textContent = `${layer.title}: ${unitsOf(layer)} ${units}`;
  layer.units = Array.from({ length: unitsOf(layer) }, (_, unit) => {
    const label = copyOf("#unit");
    label.title = nameOf(layer, unit);
    const radio = $("input", label);
    radio.name = `${panel.path} ${layer.title}`; // a group of its own, through which the arrow keys lead
    radio.setAttribute("aria-label", nameOf(layer, unit));
    radio.addEventListener("click", () => open({ panel, layer, unit }));
    label.append(makeCanvas(rows, columns));
    $(".units", layer.element).append(label);
    return label;
  });
  return layer.element;
}

function nameOf(layer, unit) {
  if (isLogits(layer)) return `${layer.title}, digit ${unit}`;
  return `${layer.title}, ${isMap(layer) ? "map" : "value"} ${unit + 1} of ${unitsOf(layer)}`;
}

// `take(count)` gives the next values of the server's answer.
export function showReading(panel, image, take) {
  paint($(".seen canvas", panel.element), (pixel) => grey(image[pixel]));
  for (const layer of panel.layers) {
    layer.output = take(valuesOf(layer));
    layer.range = [Math.min(...layer.output), Math.max(...layer.output)];
    layer.units.forEach((label, unit) => paintUnit($("canvas", label), layer, unit));
  }
  const probabilities = take(10);
  const digit = probabilities.indexOf(Math.max(...probabilities));
  showProbabilities(panel, probabilities, digit);
  const chance = percent(probabilities[digit]);
  $(".digit", panel.element).textContent = digit;
  $(".chance", panel.element).textContent = `with probability ${chance}`;
  panel.verdict = `${panel.place} reads ${digit}, with probability ${chance}.`;
}

function paintUnit(canvas, layer, unit) {
  const [lowest, highest] = layer.range;
  paint(canvas, (pixel) => grey((layer.output[pixel * unitsOf(layer) + unit] - lowest) / (highest - lowest || 1)));
}

export function clearPanel(panel) {
  panel.element.querySelectorAll(".seen canvas, .unit canvas").forEach(clearCanvas);
  showProbabilities(panel, [], null);
  $(".digit", panel.element).textContent = "?";
  $(".chance", panel.element).textContent = "";
  panel.verdict = "";
}

function showProbabilities(panel, probabilities, winner) {
  [...$(".bars", panel.element).children].forEach((row, digit) => {
    row.classList.toggle("winner", digit === winner);
    $(".bar", row).style.width = `${100 * (probabilities[digit] ?? 0)}%`;
    $(".percent", row).textContent = digit in probabilities ? percent(probabilities[digit]) : "";
  });
}

// Details of one unit: its weights, and what excites it

export function makeDetail(chosen, close) {
  chosen.element = copyOf("#detail");
  const { layer, unit, element } = chosen;
  layer.units[unit].classList.add("open");
  $("h3", element).textContent = nameOf(layer, unit);
  $(".map", element).hidden = !isMap(layer);
  const [rows, columns] = sizeOf(layer);
  Object.assign($(".map canvas", element), { width: columns, height: rows });
  $(".close", element).addEventListener("click", close);
  clearExcitation(chosen);
  layer.element.after(element);
}

export function removeDetail({ layer, unit, element }) {
  layer.units[unit].classList.remove("open");
  element.remove();
}

// `filter` is [pictures, rows, columns].
export function showFilter({ layer, element }, filter) {
  const [pictures, rows, columns] = [filter.length, filter[0].length, filter[0][0].length];
  const most = Math.max(...filter.flat(2).map(Math.abs)) || 1;
  for (const weights of filter.map((picture) => picture.flat())) {
    const canvas = makeCanvas(rows, columns);
    canvas.classList.toggle("row", rows === 1);
    canvas.dataset.columns = columns;
    paint(canvas, (pixel) => signed(weights[pixel] / most));
    $(".filter div", element).append(canvas);
  }
  const convolution = layer.title.endsWith("max pooling") ? "The filter of its convolution" : "Its filter";
  const size = rows === 1 ? `${columns}, one for each value before it` : `${rows}x${columns}`;
  const each = pictures === 1 ? "" : ` for each of the ${pictures} maps before it`;
  $(".filter figcaption", element).textContent =
    `${isMap(layer) ? convolution : "Its weights"}: ${size}${each}. Red is positive, blue is negative.`;
}

// `gradient` says for each pixel of the image how it acts on the unit's highest value.
export function showExcitation(chosen, image, gradient) {
  const { layer, unit, element } = chosen;
  const values = layer.output.filter((_, place) => place % unitsOf(layer) === unit);
  const highest = Math.max(...values);
  const off = gradient.every((slope) => slope === 0);
  chosen.value = `${isMap(layer) ? "Its highest value is" : "Its value is"} ${highest.toFixed(2)}`;
  const why = isLogits(layer) ? "" : ", since its ReLU is off";
  $(".value", element).textContent = off ? `${chosen.value}. No pixel acts on it${why}.` : `${chosen.value}.`;
  $(".meaning", element).hidden = off;
  if (isMap(layer)) {
    paintUnit($(".map canvas", element), layer, unit);
    frame($(".map span", element), off ? [] : [values.indexOf(highest)], ...sizeOf(layer));
  }
  const parts = gradient.map((slope, pixel) => slope * image[pixel]);
  const most = Math.max(...parts.map(Math.abs)) || 1;
  const rest = (pixel) => mix(WHITE, PALE, image[pixel]); // of the picture
  paint($(".excites canvas", element), (pixel) => (parts[pixel] ? signed(parts[pixel] / most) : rest(pixel)));
  frame($(".excites span", element), [...gradient.keys()].filter((pixel) => gradient[pixel] !== 0), 28, 28);
}

export function clearExcitation(chosen) {
  chosen.value = "";
  $(".value", chosen.element).textContent = "";
  $(".meaning", chosen.element).hidden = true;
  chosen.element.querySelectorAll(".map canvas, .excites canvas").forEach(clearCanvas);
  chosen.element.querySelectorAll(".map span, .excites span").forEach((element) => (element.hidden = true));
}

// Puts a frame around some pixels of a canvas.
function frame(element, pixels, rows, columns) {
  element.hidden = !pixels.length;
  const [ys, xs] = [pixels.map((pixel) => Math.floor(pixel / columns)), pixels.map((pixel) => pixel % columns)];
  const [top, left] = [Math.min(...ys), Math.min(...xs)];
  element.style.top = percent(top / rows);
  element.style.left = percent(left / columns);
  element.style.height = percent((Math.max(...ys) + 1 - top) / rows);
  element.style.width = percent((Math.max(...xs) + 1 - left) / columns);
}

// Canvases and colours

let low, high; // the colours of a layer's lowest and highest value, from page.css

export function takeColours() {
  const style = getComputedStyle(document.documentElement);
  [low, high] = ["--low", "--high"].map((name) => {
    const hex = style.getPropertyValue(name).trim();
    return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  });
}

const mix = (from, to, share) => from.map((value, channel) => Math.round(value + share * (to[channel] - value)));
const grey = (share) => mix(low, high, share);
const signed = (share) => mix(WHITE, share > 0 ? RED : BLUE, Math.abs(share));

function makeCanvas(rows, columns) {
  return Object.assign(document.createElement("canvas"), { width: columns, height: rows });
}

// `colour` gives the red, green and blue of a pixel by its number.
function paint(canvas, colour) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let pixel = 0; pixel < canvas.width * canvas.height; pixel++) {
    const [red, green, blue] = colour(pixel);
    image.data[4 * pixel] = red;
    image.data[4 * pixel + 1] = green;
    image.data[4 * pixel + 2] = blue;
    image.data[4 * pixel + 3] = 255; // opaque
  }
  context.putImageData(image, 0, 0);
}

function clearCanvas(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}
