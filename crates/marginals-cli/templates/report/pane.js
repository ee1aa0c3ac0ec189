// A text as a head reads it: the choice of a head, the text, and the tokens that share the mass.

const BARS = 10;

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)}%`;

class Pane {
  // `choose` is called with what changes of { of, layer, head, token }, and whether it is one of a run of
  // keys, which the way back passes over.
  constructor(subjects, choose, light) {
    this.subjects = subjects;
    this.choose = choose;
    this.light = light;
    this.root = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.part = Object.fromEntries(
      [...this.root.querySelectorAll("[data-part]")].map((element) => [element.dataset.part, element]),
    );
    const { of, layer, head, text } = this.part;
    subjects.forEach((subject, index) => of.append(new Option(subject.title, index)));
    of.closest("label").hidden = subjects.length < 2;
    of.addEventListener("change", () => choose({ of: Number(of.value) }));
    layer.addEventListener("change", () => {
      const value = layer.value === "all" ? "all" : Number(layer.value);
      if (value === "all") return choose({ layer: "all", head: "mean" });
      choose({ layer: value, head: head.value === "mean" ? "mean" : Number(head.value) });
    });
    head.addEventListener("change", () => choose({ head: head.value === "mean" ? "mean" : Number(head.value) }));
    text.addEventListener("click", (event) => {
      const token = this.tokenAt(event);
      if (token !== null) choose({ token });
    });
    text.addEventListener("mouseover", (event) => light(this.tokenAt(event), this));
    text.addEventListener("mouseleave", () => light(null, this));
    text.addEventListener("keydown", (event) => this.press(event));
    this.all = false;
    this.marked = [];
  }

  tokenAt(event) {
    const element = event.target.closest("[data-token]");
    return element ? Number(element.dataset.token) : null;
  }

  get subject() {
    return this.subjects[this.shown.of];
  }

  get model() {
    return models.find(({ subjects: [first, last] }) => first <= this.shown.of && this.shown.of <= last);
  }

  // Arrows: the token before or after, the head above or below.
  press(event) {
    const { token, layer, head } = this.shown;
    const { tokens, layers, heads } = this.subject;
    const to = (index) => ({ token: Math.max(0, Math.min(tokens.length - 1, index)) });
    const step = (by) => {
      if (layer === "all") return { layer: 0, head: 0 };
      if (head === "mean") return { layer: (layer + by + layers) % layers };
      const index = (layer * heads + head + by + layers * heads) % (layers * heads);
      return { layer: Math.floor(index / heads), head: index % heads };
    };
    const changes = {
      ArrowLeft: () => to(token - 1),
      ArrowRight: () => to(token + 1),
      ArrowUp: () => step(-1),
      ArrowDown: () => step(1),
      PageUp: () => to(token - 20),
      PageDown: () => to(token + 20),
      Home: () => to(0),
      End: () => to(tokens.length - 1),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !changes[event.key]) return;
    event.preventDefault();
    this.choose(changes[event.key](), true);
  }

  show(shown, way, withoutSink) {
    const before = this.shown;
    this.shown = shown;
    if (!before || before.of !== shown.of) this.write();
    this.controls();
    this.colour(way, withoutSink);
    const text = this.part.text;
    const element = this.tokens[shown.token];
    text.setAttribute("aria-activedescendant", element.id);
    const [top, bottom] = [element.offsetTop, element.offsetTop + element.offsetHeight];
    if (top < text.scrollTop || bottom > text.scrollTop + text.clientHeight) {
      text.scrollTop = top - text.clientHeight / 2;
    }
  }

  // The text and the lists to choose from, of another subject.
  write() {
    const { subject } = this;
    const { text, layer, head } = this.part;
    this.tokens = subject.tokens.map((token, index) => {
      const element = make("span", token.added ? "added" : "", token.text);
      element.dataset.token = index;
      element.id = `${this.root.id}-${index}`;
      element.setAttribute("role", "option");
      return element;
    });
    text.replaceChildren(...this.tokens.flatMap((element, index) => [subject.tokens[index].before, element]));
    text.classList.toggle("long", subject.tokens.length > 500);
    this.marked = [];
    const options = (select, count, name, value) => {
      select.replaceChildren(...Array.from({ length: count }, (_, index) => new Option(index, index)));
      select.append(new Option(name, value));
    };
    options(layer, subject.layers, "all, mean", "all");
    options(head, subject.heads, "all, mean", "mean");
  }

  controls() {
    const { of, layer, head } = this.shown;
    const { subject, part } = this;
    part.of.value = of;
    part.layer.value = layer;
    part.head.value = head;
    part.head.disabled = layer === "all";
    const single = layer !== "all" && head !== "mean";
    const index = layer * subject.heads + head;
    const count = layer === "all" ? subject.layers * subject.heads : subject.heads;
    if (single) {
      const [label, margin] = [subject.head_labels[index], subject.head_margins[index]];
      part.kind.replaceChildren(make("i", `swatch ${label}`), label);
      if (margin) part.kind.append(make("small", "", `margin ${margin[0].toFixed(2)}`));
      part.margin.textContent = this.margins(index);
    } else {
      part.kind.textContent = `mean of ${count} heads`;
    }
    part.about.hidden = !single;
    if (!single) return;
    const over = this.model.over_texts?.[index];
    const row = (cell, title, ...values) => {
      const made = make("tr");
      made.append(make(cell, "", title), ...values.map((value) => make(cell, "", value)));
      return made;
    };
    part.numbers.replaceChildren(
      ...(over ? [row("th", "", "this text", "mean ± s.d.")] : []),
      ...measures.map((title, measure) => {
        const own = subject.head_measures[index][measure];
        return row("td", title, own, ...(over ? [over.measures[measure]] : []));
      }),
    );
  }

  // What would change the label of a head, and what several texts say of it.
  margins(index) {
    const { subject, model } = this;
    const said = [];
    const margin = subject.head_margins[index];
    if (margin) {
      const [size, measure, label] = margin;
      said.push(`It would be ${label} with a change of ${size.toFixed(2)} in “${measures[measure]}”.`);
    }
    const over = model.over_texts?.[index];
    if (over) {
      const count = model.subjects[1] - model.subjects[0] + 1;
      const [mean, deviation] = over.margin;
      const spread = mean === null ? "" : `; margins on each: ${withDigits(mean, deviation)}`;
      said.push(`By the means over ${count} texts it is ${model.labels[index]}, and on ${over.agreeing} of them alone${spread}.`);
    }
    return said.join(" ");
  }

  colour(way, withoutSink) {
    const { subject, part, shown } = this;
    for (const element of this.marked) {
      element.style.removeProperty("--p");
      element.classList.remove("query", "left-out");
      element.removeAttribute("title");
      element.removeAttribute("aria-selected");
    }
    const heads = headsOf(subject, shown);
    const { found, missing, sink, rest } = look(subject, heads, shown.token, way, withoutSink);
    const chosen = this.tokens[shown.token];
    chosen.classList.add("query");
    chosen.setAttribute("aria-selected", "true");
    this.marked = [chosen];
    for (const [token, mass] of found) {
      const element = this.tokens[token];
      // The square root lets small shares be seen; the bars beside the text are in proportion.
      element.style.setProperty("--p", (0.9 * Math.sqrt(mass)).toFixed(3));
      element.title = `token ${token}: ${percent(mass)}`;
      this.marked.push(element);
    }
    if (sink >= 0) {
      this.tokens[sink].classList.add("left-out");
      this.marked.push(this.tokens[sink]);
    }

    const name = `“${visible(subject.tokens[shown.token].text)}” (token ${shown.token})`;
    const title = way === "out" ? `Where ${name} looks` : `Who looks at ${name}`;
    part.asked.textContent = title;
    part.note.textContent = this.note(way, found, sink, rest);
    part.next.textContent = this.next();
    const shows = this.all ? found.length : BARS;
    const rows = found.map(([token, mass]) => ({ token, name: visible(subject.tokens[token].text), place: token, share: mass }));
    const beyond = rows.slice(shows).reduce((sum, row) => sum + row.share, way === "out" ? missing : 0);
    const last = way === "out" && rest >= LEAST_REST ? [{ token: -1, name: "other keys", place: "", share: beyond }] : [];
    // Bars are drawn to the longest of them; the numbers say how long that is.
    const drawn = [...rows.slice(0, shows), ...last];
    const longest = Math.max(...drawn.map((row) => row.share), LEAST);
    part.keys.replaceChildren(...drawn.map((row) => this.bar(row, longest)));
    if (rows.length > BARS) {
      const more = make("button", "more", this.all ? "fewer" : `all ${rows.length}`);
      more.type = "button";
      more.addEventListener("click", () => { this.all = !this.all; this.colour(way, withoutSink); });
      part.keys.append(more);
    }
    const kind = way === "out" ? "keys" : "queries";
    const file = `${subject.name}-${writeHead(shown)}-token-${shown.token}-${kind}`;
    const header = ["token", "text", "probability"];
    part.keys.append(buttons(
      ["SVG", () => save(`${file}.svg`, "image/svg+xml", barChart(title, drawn))],
      ["CSV", () => save(`${file}.csv`, "text/csv", csv([
        header, ...found.map(([token, mass]) => [token, subject.tokens[token].text, mass.toPrecision(3)]),
      ]))],
    ));
    this.said = `${title}: ${rows.slice(0, 3).map((row) => `${row.name} ${percent(row.share)}`).join(", ") || "nothing"}`;
  }

  // What the model predicts after the chosen token, and what the token that comes there costs it.
  next() {
    const found = this.subject.predictions?.[this.shown.token];
    if (!found) return "";
    const likeliest = found.likeliest.map(([piece, p]) => `“${visible(piece)}” ${percent(p)}`).join(", ");
    const cost = found.loss === null ? "" : `; what comes costs ${found.loss.toFixed(2)} nats`;
    return `Predicted next: ${likeliest}${cost}`;
  }

  note(way, found, sink, rest) {
    const { tokens } = this.subject;
    const without = sink >= 0 ? `without the sink, “${visible(tokens[sink].text)}” (token ${sink})` : "";
    if (way === "in") {
      const sum = found.reduce((total, row) => total + row[1], 0);
      const all = `${sum < 9.95 ? sum.toFixed(2) : sum.toFixed(0)} of ${tokens.length} queries’ mass`;
      return sink === this.shown.token ? "It is the sink, which is left out." : [all, without].filter(Boolean).join(", ");
    }
    if (sink < 0) return "";
    if (rest < LEAST_REST) return `All but ${percent(Math.max(0, rest))} lies on the sink, token ${sink}: too little to divide.`;
    return `${percent(rest)} of its mass, renormalised, ${without}`;
  }

  bar({ token, name, place, share }, longest) {
    const row = make(token < 0 ? "div" : "button", token < 0 ? "key rest" : "key");
    const length = make("i");
    length.style.setProperty("--p", share / longest);
    row.append(make("b", "", name), make("small", "", place), length, make("span", "", percent(share)));
    if (token >= 0) {
      row.type = "button";
      row.dataset.token = token;
      row.title = `choose token ${token}`;
      row.addEventListener("click", () => this.choose({ token }));
      for (const event of ["mouseenter", "focus"]) row.addEventListener(event, () => this.light(token, this));
      for (const event of ["mouseleave", "blur"]) row.addEventListener(event, () => this.light(null, this));
    }
    return row;
  }

  // Lights a token in the text and among the bars; none where it is null.
  lit(token) {
    for (const element of this.root.querySelectorAll(".lit")) element.classList.remove("lit");
    if (token === null) return;
    this.tokens[token]?.classList.add("lit");
    this.part.keys.querySelector(`[data-token="${token}"]`)?.classList.add("lit");
  }
}
