// Every head of a model with its label and margin, as a table that is made when it is opened.

const withDigits = (mean, deviation) => mean.toFixed(2) + (deviation === null ? "" : ` ± ${deviation.toFixed(2)}`);

// Columns of the table: a title, what is shown of a head, and what the rows are sorted by.
function columnsOf(model) {
  const measured = (title, name) => {
    const at = names.indexOf(name);
    const spread = (index) => model.over_texts?.[index].deviations[at];
    return [title, (index) => withSpread(model.values[index][at], spread(index)), (index) => model.values[index][at]];
  };
  const margin = (index) => model.margins[index]?.[0] ?? null;
  const count = model.subjects[1] - model.subjects[0] + 1;
  const ofTexts = [
    ["texts that agree", (index) => `${model.over_texts[index].agreeing} of ${count}`, (index) => model.over_texts[index].agreeing],
    ["margin on each", (index) => {
      const [mean, deviation] = model.over_texts[index].margin;
      return mean === null ? "none" : withDigits(mean, deviation);
    }, (index) => model.over_texts[index].margin[0]],
  ];
  return [
    ["head", (index) => `${Math.floor(index / model.heads)}.${index % model.heads}`, (index) => -index],
    ["kind", (index) => model.labels[index], (index) => model.labels[index]],
    ["margin", (index) => (margin(index) === null ? "none" : margin(index).toFixed(2)), margin],
    ["to", (index) => model.margins[index]?.[2] ?? "", (index) => model.margins[index]?.[2] ?? ""],
    ["by a change of", (index) => measures[model.margins[index]?.[1]] ?? "", (index) => model.margins[index]?.[1] ?? -1],
    ...(model.over_texts ? ofTexts : []),
    measured("keys", "effective_keys"),
    measured("KL", "kl"),
    measured("gap", "map_gap"),
  ];
}

function listHeads(part, model) {
  const details = part.querySelector("details.all");
  details?.addEventListener("toggle", () => {
    const table = details.querySelector("table");
    if (!details.open || table.rows.length > 0) return;
    const columns = columnsOf(model);
    const indices = model.labels.map((_, index) => index);
    const [head, body] = [table.createTHead().insertRow(), table.createTBody()];
    const rows = indices.map((index) => {
      const row = make("tr");
      columns.forEach(([, shown], column) => {
        const cell = make("td");
        if (column === 0) {
          const button = make("button", "", shown(index));
          button.type = "button";
          button.dataset.head = shown(index);
          cell.append(button);
        } else if (column === 1) cell.append(make("i", `swatch ${shown(index)}`), " ", shown(index));
        else cell.textContent = shown(index);
        row.append(cell);
      });
      return row;
    });
    const words = (value) => typeof value === "string";
    const sort = (column) => {
      const by = columns[column][2];
      const compare = (a, b) => (words(a) ? a.localeCompare(b) : (b ?? -Infinity) - (a ?? -Infinity) || 0);
      const sorted = indices.toSorted((a, b) => compare(by(a), by(b)) || a - b);
      body.replaceChildren(...sorted.map((index) => rows[index]));
      [...head.cells].forEach((cell, at) => {
        if (at === column) cell.setAttribute("aria-sort", words(by(0)) ? "ascending" : "descending");
        else cell.removeAttribute("aria-sort");
      });
    };
    columns.forEach(([title], column) => {
      const [cell, button] = [make("th"), make("button", "", title)];
      button.type = "button";
      button.title = `sort by ${title}`;
      button.addEventListener("click", () => sort(column));
      cell.append(button);
      head.append(cell);
    });
    sort(0);
  });
}
