// The page: what is shown, and every way to choose.

const at = (id) => document.getElementById(id);
const { models, subjects, names, measures } = JSON.parse(at("data").textContent);

for (const subject of subjects) {
  let place = 0;
  for (const token of subject.tokens) {
    token.start = place += token.before.length;
    if (!token.added) place += token.text.length;
    token.end = place;
  }
  subject.text = subject.tokens.map((token) => token.before + (token.added ? "" : token.text)).join("");
}

let state = readAddress(location.hash, subjects);
let written = location.hash;
let active = 0;
const panes = [];

// Makes `change` of the page's state. Where it `follows` another of the same kind, the way back leads past it.
function go(change, follows) {
  const next = { ...state, ...change };
  const address = writeAddress(next);
  state = next;
  if (address !== location.hash) {
    written = address;
    if (follows) location.replace(address);
    else location.hash = address;
  }
  show();
}

// Makes `change` of one pane; another that reads the same text follows its token.
function goPane(index, change, follows) {
  active = index;
  const before = state.panes[index];
  const of = change.of ?? before.of;
  let pane = { ...before, ...change };
  if (of !== before.of) {
    const { layer, head, token } = subjects[of].first;
    const same = sharesText(subjects[before.of], subjects[of]);
    pane = { of, layer, head, token: same ? sameToken(subjects[before.of], before.token, subjects[of]) : token, ...change };
  }
  const next = state.panes.map((other, place) => {
    if (place === index) return pane;
    const linked = change.token !== undefined && sharesText(subjects[other.of], subjects[of]);
    return linked ? { ...other, token: sameToken(subjects[of], pane.token, subjects[other.of]) } : other;
  });
  go({ panes: next }, follows);
}

// Lights a token wherever its text is read.
function light(token, from) {
  for (const pane of panes) {
    if (pane === from || token === null) pane.lit(token);
    else if (sharesText(pane.subject, from.subject)) pane.lit(sameToken(from.subject, token, pane.subject));
    else pane.lit(null);
  }
}

const charts = [...document.querySelectorAll("[data-model]")].map((part) => {
  const model = models[part.dataset.model];
  part.querySelectorAll("svg[tabindex]").forEach((map) => {
    map.addEventListener("keydown", (event) => walk(model, event));
  });
  listHeads(part, model);
  return [model, new Charts(part, model, pick)];
});
const reads = (model, pane) => model.subjects[0] <= pane.of && pane.of <= model.subjects[1];

// Shows a head that was pointed at: in the pane that was used last, or beside the first.
function pick(model, layer, head, beside) {
  const [first, second] = state.panes;
  if (!beside && (!second || active === 0)) {
    return goPane(0, { of: reads(model, first) ? first.of : model.subjects[0], layer, head });
  }
  const last = second ?? first;
  const of = reads(model, last) ? last.of : model.subjects[0];
  const same = sharesText(subjects[last.of], subjects[of]);
  const token = same ? sameToken(subjects[last.of], last.token, subjects[of]) : subjects[of].first.token;
  active = 1;
  go({ panes: [first, { of, layer, head, token }] });
}

// Arrows on a map: layers lie from left to right, heads from top to bottom.
function walk(model, event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const step = steps[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const index = Math.max(0, state.panes.findIndex((pane) => reads(model, pane)));
  const pane = state.panes[index];
  const of = reads(model, pane) ? pane.of : model.subjects[0];
  const { layers, heads, first } = subjects[of];
  const known = pane.of === of && pane.layer !== "all" && pane.head !== "mean" ? pane : first;
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  const to = { layer: within(known.layer + step[0], layers), head: within(known.head + step[1], heads) };
  goPane(index, { of, ...to }, true);
}

function show() {
  if (!subjects.every((subject) => subject.lists)) return;
  const places = at("panes");
  while (panes.length < state.panes.length) {
    const index = panes.length;
    const pane = new Pane(subjects, (change, follows) => goPane(index, change, follows), light);
    pane.root.id = `pane-${index}`;
    pane.root.addEventListener("focusin", () => { active = index; });
    panes.push(pane);
    places.append(pane.root);
  }
  while (panes.length > state.panes.length) panes.pop().root.remove();
  active = Math.min(active, panes.length - 1);
  places.classList.toggle("two", panes.length > 1);
  panes.forEach((pane, index) => pane.show(state.panes[index], state.way, state.withoutSink));

  document.querySelector(`input[name="way"][value="${state.way}"]`).checked = true;
  at("without-sink").checked = state.withoutSink;
  at("beside").textContent = panes.length > 1 ? "close the second" : "read beside it";
  at("beside").setAttribute("aria-pressed", panes.length > 1);
  const shown = state.panes.map((pane, index) => ({ ...pane, second: index > 0 }));
  const single = shown.filter(({ layer, head }) => layer !== "all" && head !== "mean").toReversed();
  charts.forEach(([model, part]) => part.mark(single.filter((pane) => reads(model, pane))));
  at("said").textContent = panes[active].said;
}

document.querySelectorAll('input[name="way"]').forEach((input) => {
  input.addEventListener("change", () => go({ way: input.value }));
});
at("without-sink").addEventListener("change", (event) => go({ withoutSink: event.target.checked }));
at("beside").addEventListener("click", () => {
  const [first, second] = state.panes;
  if (second) return go({ panes: [first] });
  // Another model or text where there is one, another head otherwise.
  const of = subjects.length > 1 ? (first.of + 1) % subjects.length : first.of;
  const subject = subjects[of];
  const token = sharesText(subjects[first.of], subject) ? sameToken(subjects[first.of], first.token, subject) : subject.first.token;
  const same = of === first.of && first.layer !== "all" && first.head !== "mean";
  const index = same ? (first.layer * subject.heads + first.head + 1) % (subject.layers * subject.heads) : 0;
  const other = same ? { layer: Math.floor(index / subject.heads), head: index % subject.heads } : subject.first;
  active = 1;
  go({ panes: [first, { of, layer: other.layer, head: other.head, token }] });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  if (state.panes.length > 1) go({ panes: [state.panes[0]] });
  else go(readAddress("", subjects));
});
addEventListener("hashchange", () => {
  if (location.hash === written) return;
  written = location.hash;
  state = readAddress(location.hash, subjects);
  show();
});

Promise.all(subjects.map(async (subject, index) => {
  const stream = at(`posteriors-${index}`);
  subject.lists = await unpack(stream.textContent, subject.posteriors, subject.layers * subject.heads, subject.tokens.length);
  stream.remove();
})).then(() => {
  show();
  at("read").removeAttribute("aria-busy");
}, (error) => {
  at("said").classList.remove("hidden");
  at("said").textContent = "This browser cannot unpack the posteriors: it needs DecompressionStream, which browsers have had since 2023.";
  throw error;
});
