// Charts and their numbers as files, made in the page.

const INLINED = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin",
  "stroke-linecap", "paint-order", "font-family", "font-size", "font-weight", "text-anchor",
];

function save(name, type, content) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name.replace(/[^\w.-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// A field of a table; quoted where it could be read as more than one.
function field(value) {
  const text = String(value ?? "");
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const csv = (rows) => rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");

// A chart of the page as a file that needs no style sheet: in the colours it has now.
function standalone(svg) {
  const copy = svg.cloneNode(true);
  copy.querySelectorAll(".under").forEach((frame) => frame.remove());
  const { width, height } = svg.viewBox.baseVal;
  const originals = [svg, ...svg.querySelectorAll("*:not(.under)")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(originals[index]);
    if (!(originals[index] instanceof SVGTitleElement)) {
      for (const name of INLINED) element.setAttribute(name, style.getPropertyValue(name));
    }
    for (const name of ["class", "style", "tabindex", "data-head", "data-grid"]) element.removeAttribute(name);
  });
  const ground = document.createElementNS(svg.namespaceURI, "rect");
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--paper");
  for (const [name, value] of Object.entries({ width, height, fill: colour })) ground.setAttribute(name, value);
  copy.prepend(ground);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return `${new XMLSerializer().serializeToString(copy)}\n`;
}

// The numbers behind a chart of a model, with a first row of names. `what` is as the chart's `data-csv` says.
function table(model, what) {
  const [kind, ...chosen] = what.split(" ");
  const placeOf = (index) => [Math.floor(index / model.heads), index % model.heads];
  if (kind === "shares") {
    const rows = [["layer", "head", "share_from", "share_to", "queries"]];
    model.histograms.forEach((counts, index) => {
      counts.forEach((count, bin) => {
        rows.push([...placeOf(index), bin / counts.length, (bin + 1) / counts.length, count]);
      });
    });
    return rows;
  }
  const columns = chosen.map((name) => names.indexOf(name));
  const spread = model.over_texts;
  const ofLabels = kind === "labels";
  const rows = [["layer", "head", "label"]];
  if (ofLabels) rows[0].push("margin", "margin_measure", "margin_label", ...(spread ? ["agreeing_texts"] : []));
  for (const name of chosen) rows[0].push(name, ...(spread ? [`${name}_deviation`] : []));
  model.labels.forEach((label, index) => {
    const row = [...placeOf(index), label];
    if (ofLabels) {
      const [margin, measure, other] = model.margins[index] ?? [];
      row.push(margin, names[measure], other, ...(spread ? [spread[index].agreeing] : []));
    }
    for (const column of columns) {
      row.push(model.values[index][column], ...(spread ? [spread[index].deviations[column]] : []));
    }
    rows.push(row);
  });
  return rows;
}

// Buttons that save a figure's chart and numbers.
function saveButtons(figure, model) {
  const what = figure.dataset.csv;
  const name = `${model.name}-${what}`;
  const svg = figure.querySelector("svg");
  figure.append(buttons(
    ["SVG", () => save(`${name}.svg`, "image/svg+xml", standalone(svg))],
    ["CSV", () => save(`${name}.csv`, "text/csv", csv(table(model, what)))],
  ));
}

function buttons(...each) {
  const row = make("div", "save");
  for (const [text, act] of each) {
    const button = make("button", "", text);
    button.type = "button";
    button.title = `save as ${text}`;
    button.addEventListener("click", act);
    row.append(button);
  }
  return row;
}

// The bars of a list of keys as a chart.
function barChart(title, rows) {
  const [width, line] = [420, 20];
  const longest = Math.max(...rows.map((row) => row.share), 1e-9);
  const space = document.querySelector("svg").namespaceURI;
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${30 + line * rows.length}`);
  const colours = getComputedStyle(document.documentElement);
  const colour = (name) => colours.getPropertyValue(name).trim();
  const add = (tag, attributes, text) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    svg.append(element);
  };
  const letters = { "font-family": "system-ui, sans-serif", "font-size": 12, fill: colour("--ink") };
  add("rect", { width: "100%", height: "100%", fill: colour("--paper") });
  add("text", { ...letters, "font-weight": 600, x: 8, y: 18 }, title);
  rows.forEach(({ name, place, share }, index) => {
    const y = 30 + line * index;
    add("text", { ...letters, x: 150, y: y + 13, "text-anchor": "end" }, place === "" ? name : `${name} ${place}`);
    add("rect", { x: 158, y: y + 3, height: 12, rx: 2, width: (200 * share) / longest, fill: colour("--mark") });
    add("text", { ...letters, x: width - 8, y: y + 13, "text-anchor": "end" }, percent(share));
  });
  svg.setAttribute("width", width);
  svg.setAttribute("height", 30 + line * rows.length);
  return `${new XMLSerializer().serializeToString(svg)}\n`;
}
