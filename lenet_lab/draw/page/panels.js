// The panels: for each network its verdict, the probabilities, the outputs of its layers, and details of one unit.

const MAP_SIZES = { 28: 76, 14: 50, 10: 44, 5: 32, 1: 14 }; // pixels on the screen, by the columns of a map

export const $ = (selector, root = document) => root.querySelector(selector);

const copyOf = (template) => $(template).content.cloneNode(true).firstElementChild;
const isMap = (layer) => layer.shape.length === 3;
const unitsOf = (layer) => layer.shape.at(-1);

// `about` is what the server tells of the network; `open` is called with the unit that is clicked.
export function makePanel(about, layers, open) {
  const element = copyOf("#panel");
  const panel = { path: about.path, title: about.title, layers, element };
  $("h2", element).textContent = about.title;
  const tested = about.test_accuracy ? `, ${(100 * about.test_accuracy).toFixed(2)}% on its test set` : "";
  $(".about", element).textContent = `trained on ${about.data}${tested}`;
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
  const [rows, columns] = isMap(layer) ? layer.shape : [1, 1];
  const units = isMap(layer) ? `maps of ${rows}x${columns}` : "values";
  $("legend", layer.element).textContent = `${layer.title}: ${unitsOf(layer)} ${units}`;
  layer.canvases = Array.from({ length: unitsOf(layer) }, () => makeCanvas(rows, columns, MAP_SIZES[columns] ?? 44));
  layer.canvases.forEach((canvas, unit) => {
    const label = copyOf("#unit");
    const radio = $("input", label);
    radio.name = `${panel.path} ${layer.title}`; // a group of its own, through which the arrow keys lead
    radio.setAttribute("aria-label", nameOf(layer, unit));
    radio.addEventListener("change", () => open({ panel, layer, unit, radio }));
    label.append(canvas);
    $(".units", layer.element).append(label);
  });
  return layer.element;
}

function nameOf(layer, unit) {
  return `${layer.title}, ${isMap(layer) ? "map" : "value"} ${unit + 1} of ${unitsOf(layer)}`;
}

// `take(count)` gives the next values of the server's answer.
export function showReading(panel, take) {
  for (const layer of panel.layers) {
    layer.output = take(layer.shape.reduce((product, side) => product * side));
    const [low, high] = [Math.min(...layer.output), Math.max(...layer.output)];
    layer.canvases.forEach((canvas, unit) => {
      paint(canvas, (pixel) => grey((layer.output[pixel * unitsOf(layer) + unit] - low) / (high - low || 1)));
    });
  }
  const probabilities = take(10);
  const digit = probabilities.indexOf(Math.max(...probabilities));
  showProbabilities(panel, probabilities, digit);
  const chance = percent(probabilities[digit]);
  $(".digit", panel.element).textContent = digit;
  $(".chance", panel.element).textContent = `with probability ${chance}`;
  panel.verdict = `${panel.title} reads ${digit}, with probability ${chance}.`;
  markStale(panel, false);
}

export function clearPanel(panel) {
  for (const layer of panel.layers) layer.canvases.forEach(clearCanvas);
  showProbabilities(panel, Array(10).fill(0), null);
  $(".digit", panel.element).textContent = "?";
  $(".chance", panel.element).textContent = "";
  panel.verdict = "";
  markStale(panel, false);
}

// What a panel shows is stale while the newest picture can't be read.
export function markStale(panel, stale) {
  panel.element.classList.toggle("stale", stale);
}

function showProbabilities(panel, probabilities, winner) {
  [...$(".bars", panel.element).children].forEach((row, digit) => {
    row.classList.toggle("winner", digit === winner);
    $(".bar", row).style.width = `${100 * probabilities[digit]}%`;
    $(".percent", row).textContent = percent(probabilities[digit]);
  });
}

const percent = (probability) => `${(100 * probability).toFixed(1)}%`;

// Details of one unit: its filter, and what excites it

export function makeDetail(chosen, close) {
  chosen.element = copyOf("#detail");
  $("h3", chosen.element).textContent = nameOf(chosen.layer, chosen.unit);
  $(".close", chosen.element).addEventListener("click", close);
  chosen.layer.element.after(chosen.element);
}

// `filter` is [pictures, rows, columns].
export function showFilter({ element }, filter) {
  const [pictures, rows, columns] = [filter.length, filter[0].length, filter[0][0].length];
  const most = Math.max(...filter.flat(2).map(Math.abs)) || 1;
  for (const weights of filter.map((picture) => picture.flat())) {
    const canvas = makeCanvas(rows, columns, rows === 1 ? 300 : Math.max(36, 4 * columns));
    if (rows === 1) canvas.style.height = "14px"; // one row of weights
    paint(canvas, (pixel) => signed(weights[pixel] / most));
    $(".filter div", element).append(canvas);
  }
  const weights = rows === 1 ? `${columns} weights` : `${rows}x${columns} weights`;
  const each = pictures === 1 ? "" : ` for each of the ${pictures} maps that it looks at`;
  $(".filter figcaption", element).textContent = `Its filter: ${weights}${each}. Red is positive, blue is negative.`;
}

// `gradient` says for each pixel of the image how it acts on the unit's highest value.
export function showExcitation({ layer, unit, element }, image, gradient) {
  const values = layer.output.filter((_, place) => place % unitsOf(layer) === unit);
  const highest = Math.max(...values);
  const place = values.indexOf(highest);
  const [row, column] = [Math.floor(place / layer.shape[1]) + 1, (place % layer.shape[1]) + 1];
  const value = isMap(layer)
    ? `Its highest value is ${highest.toFixed(2)}, in row ${row}, column ${column}.`
    : `Its value is ${highest.toFixed(2)}.`;
  const off = gradient.every((slope) => slope === 0); // behind a ReLU
  $(".value", element).textContent = off ? "Nothing in this picture excites it." : value;
  const parts = gradient.map((slope, pixel) => slope * image[pixel]);
  const most = Math.max(...parts.map(Math.abs)) || 1;
  const rest = (pixel) => mix([255, 255, 255], [200, 200, 200], image[pixel]); // the picture, in light grey
  paint($(".excites canvas", element), (pixel) => (parts[pixel] ? signed(parts[pixel] / most) : rest(pixel)));
  frame($(".excites span", element), gradient);
}

export function clearExcitation({ element }) {
  $(".value", element).textContent = "";
  $(".excites span", element).hidden = true;
  clearCanvas($(".excites canvas", element));
}

// Puts a frame around the pixels whose value is not 0.
function frame(element, values) {
  const pixels = [...values.keys()].filter((pixel) => values[pixel] !== 0);
  element.hidden = !pixels.length;
  const rows = pixels.map((pixel) => Math.floor(pixel / 28));
  const columns = pixels.map((pixel) => pixel % 28);
  const [top, left] = [Math.min(...rows), Math.min(...columns)];
  const [height, width] = [Math.max(...rows) + 1 - top, Math.max(...columns) + 1 - left];
  for (const [side, value] of Object.entries({ top, left, height, width })) element.style[side] = `${(100 * value) / 28}%`;
}

// Canvases and colours

let low, high; // the colours of a map's lowest and highest value, from page.css

export function takeColours() {
  const style = getComputedStyle(document.documentElement);
  [low, high] = ["--low", "--high"].map((name) => {
    const hex = style.getPropertyValue(name).trim();
    return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  });
}

const mix = (from, to, share) => from.map((value, channel) => Math.round(value + share * (to[channel] - value)));
export const grey = (share) => mix(low, high, share);
const signed = (share) => mix([255, 255, 255], share > 0 ? [178, 24, 43] : [33, 102, 172], Math.abs(share)); // red, blue

function makeCanvas(rows, columns, width) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  Object.assign(canvas.style, { width: `${width}px`, height: `${(width * rows) / columns}px` });
  return canvas;
}

// `colour` gives the red, green and blue of a pixel by its number.
export function paint(canvas, colour) {
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

export function clearCanvas(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}
