"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const BARS = 10;
  const posteriors = new Map(data.queries.map((entry) => [entry.query, entry.keys]));
  const visible = (text) => (text.trim() === "" ? text.replace(/\n/g, "⏎").replace(/ /g, "␣") : text.trim());
  let query = data.first_query;
  let head = data.first_head;

  const tokens = data.tokens.map((token, index) => {
    const text = at("text");
    if (token.before) text.append(token.before);
    const choosable = posteriors.has(index);
    const element = make("span", token.added ? "added" : "", token.text);
    if (choosable) {
      const choose = () => { query = index; show(); };
      element.setAttribute("role", "button");
      element.tabIndex = 0;
      element.addEventListener("click", choose);
      element.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(); });
    }
    text.append(element);
    return element;
  });
  const fill = (select, count) => {
    for (let index = 0; index < count; index++) select.append(new Option(index, index));
  };
  fill(at("layer"), data.layers);
  fill(at("head"), data.heads);
  const choose = () => { head = Number(at("layer").value) * data.heads + Number(at("head").value); show(); };
  at("layer").addEventListener("change", choose);
  at("head").addEventListener("change", choose);
  const marks = new Map();
  document.querySelectorAll("[data-head]").forEach((mark) => {
    const name = mark.dataset.head;
    if (!marks.has(name)) marks.set(name, []);
    marks.get(name).push(mark);
    mark.addEventListener("click", () => {
      const [layer, number] = name.split(".").map(Number);
      head = layer * data.heads + number;
      show();
    });
  });

  let marked = [];
  function show() {
    const layer = Math.floor(head / data.heads);
    const number = head % data.heads;
    at("layer").value = layer;
    at("head").value = number;
    const kind = data.head_labels[head];
    at("kind").replaceChildren(make("i", `swatch ${kind}`), kind);
    document.querySelectorAll(".chosen").forEach((mark) => mark.classList.remove("chosen"));
    (marks.get(`${layer}.${number}`) || []).forEach((mark) => {
      mark.classList.add("chosen");
      mark.parentNode.append(mark);
    });

    for (const element of marked) {
      element.style.removeProperty("--p");
      element.classList.remove("query");
      element.removeAttribute("title");
    }
    marked = [tokens[query]];
    tokens[query].classList.add("query");
    at("asked").textContent = `Where “${visible(data.tokens[query].text)}” (token ${query}) looks`;
    const rows = [];
    const flat = posteriors.get(query)[head];
    // Bars are drawn to the longest of them; the numbers say how long that is.
    const beyond = Math.max(0, 10000 - total(flat));
    const longest = Math.max(flat[1] || 1, beyond);
    for (let place = 0; place < flat.length; place += 2) {
      const [key, share] = [flat[place], flat[place + 1]];
      const element = tokens[key];
      // The square root lets small shares be seen; the bars beside the text are in proportion.
      element.style.setProperty("--p", (0.9 * Math.sqrt(share / 10000)).toFixed(3));
      element.title = `token ${key}: ${(share / 100).toFixed(2)}%`;
      marked.push(element);
      if (rows.length < BARS) rows.push(bar("key", visible(data.tokens[key].text), share, key, longest));
    }
    rows.push(bar("key rest", "other keys", beyond, -1, longest));
    at("keys").replaceChildren(...rows);
    at("numbers").replaceChildren(
      ...data.measures.map((title, index) => {
        const row = make("tr");
        row.append(make("td", "", title), make("td", "", data.head_measures[head][index]));
        return row;
      }),
    );
  }
  function total(flat) {
    let sum = 0;
    for (let place = 0; place < 2 * BARS && place < flat.length; place += 2) sum += flat[place + 1];
    return sum;
  }
  function bar(className, text, share, key, longest) {
    const row = make("div", className);
    const length = make("i");
    length.style.setProperty("--p", share / longest);
    const name = make("b", "", text);
    if (key >= 0) name.title = `token ${key}`;
    row.append(name, length, make("span", "", `${(share / 100).toFixed(1)}%`));
    return row;
  }
  show();
  const [box, line] = [at("text"), tokens[query]];
  box.scrollTop = line.offsetTop - box.clientHeight / 2;
})();
