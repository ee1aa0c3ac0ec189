// Heads in the charts: which one is under the mouse, and which are shown.

// Layer and head that a map has at the place of the mouse, or a dot stands for.
function headAt(event) {
  const dot = event.target.closest("[data-head]");
  if (dot) return dot.dataset.head.split(".").map(Number);
  const svg = event.target.closest("svg[data-grid]");
  if (!svg) return null;
  const [left, width, height, layers, heads] = svg.dataset.grid.split(" ").map(Number);
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [layer, head] = [Math.floor((place.x - left) / width), Math.floor(place.y / height)];
  return layer >= 0 && layer < layers && head >= 0 && head < heads ? [layer, head] : null;
}

const writtenNumber = (value) => (value === null ? "not measured" : Number(value.toPrecision(3)).toLocaleString("en"));

// A mean, with its standard deviation over the texts where there are several.
const withSpread = (mean, deviation) => (deviation == null ? writtenNumber(mean) : `${writtenNumber(mean)} ± ${writtenNumber(deviation)}`);

// What a chart says of a head.
function describe(model, figure, [layer, head]) {
  const index = layer * model.heads + head;
  const [kind, ...chosen] = figure.dataset.csv.split(" ");
  const number = (name) => {
    const at = names.indexOf(name);
    return withSpread(model.values[index][at], model.over_texts?.[index].deviations[at]);
  };
  const margin = model.margins[index];
  const label = margin ? `${model.labels[index]}, margin ${margin[0].toFixed(2)}` : model.labels[index];
  const values = kind === "labels" ? [label] : chosen.map(number);
  return `layer ${layer}, head ${head}: ${values.join(", ")}`;
}

// A frame around a head of a map.
function frame(svg, [layer, head], className) {
  const [left, width, height] = svg.dataset.grid.split(" ").map(Number);
  const rect = document.createElementNS(svg.namespaceURI, "rect");
  const place = { x: left + width * layer, y: height * head, width, height, class: className };
  for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
  svg.append(rect);
}

// The charts of one model: `pick` is called with a head that is clicked, and whether it is to be beside.
class Charts {
  constructor(part, model, pick) {
    this.part = part;
    part.querySelectorAll("figure[data-csv]").forEach((figure) => {
      saveButtons(figure, model);
      const svg = figure.querySelector("svg");
      svg.addEventListener("mousemove", (event) => {
        const head = headAt(event);
        svg.querySelectorAll(".under").forEach((rect) => rect.remove());
        // A title of the whole chart: one for every head of every chart would be most of the page.
        let title = svg.querySelector("title");
        if (!head) return title?.remove();
        if (!title) svg.prepend((title = document.createElementNS(svg.namespaceURI, "title")));
        title.textContent = describe(model, figure, head);
        if (svg.dataset.grid) frame(svg, head, "under");
      });
      svg.addEventListener("mouseleave", () => svg.querySelectorAll(".under, title").forEach((rect) => rect.remove()));
    });
    part.addEventListener("click", (event) => {
      const head = headAt(event);
      if (head) pick(model, ...head, event.shiftKey);
    });
  }

  // Marks the heads that are shown: of each, its place and whether it is the second.
  mark(shown) {
    this.part.querySelectorAll("rect.chosen").forEach((rect) => rect.remove());
    this.part.querySelectorAll(".chosen").forEach((dot) => dot.classList.remove("chosen", "second"));
    for (const { layer, head, second } of shown) {
      const className = second ? "chosen second" : "chosen";
      this.part.querySelectorAll("svg[data-grid]").forEach((svg) => frame(svg, [layer, head], className));
      this.part.querySelectorAll(`[data-head="${layer}.${head}"]`).forEach((dot) => {
        dot.classList.add(...className.split(" "));
        // Above the other dots.
        if (dot instanceof SVGElement) dot.parentNode.append(dot);
      });
    }
  }
}
