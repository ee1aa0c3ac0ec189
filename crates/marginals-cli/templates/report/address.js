// What the page shows, as the part of its address after `#`: every choice can be linked to and gone back to.

const clamp = (text, count, otherwise) => {
  const number = Number(text);
  return text !== null && /^\d+$/.test(text) && number < count ? number : otherwise;
};

// Layer and head of "3.2", "3.mean" or "mean".
function readHead(text, subject, otherwise) {
  if (text === "mean") return { layer: "all", head: "mean" };
  const [layer, head] = (text ?? "").split(".");
  const number = clamp(layer, subject.layers, null);
  if (number === null) return otherwise;
  return { layer: number, head: head === "mean" ? "mean" : clamp(head ?? null, subject.heads, 0) };
}

const writeHead = ({ layer, head }) => (layer === "all" ? "mean" : `${layer}.${head}`);

function readPane(words, before, subjects, otherwise) {
  const of = clamp(words.get(`${before}of`), subjects.length, otherwise.of);
  const subject = subjects[of];
  const first = of === otherwise.of ? otherwise : subject.first;
  return {
    of,
    ...readHead(words.get(`${before}head`), subject, { layer: first.layer, head: first.head }),
    token: clamp(words.get(`${before}token`), subject.tokens.length, first.token),
  };
}

// `panes` holds one or two of { of, layer, head, token }; `way` is "out" where a token looks and "in" for
// who looks at it.
function readAddress(hash, subjects) {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const panes = [readPane(words, "", subjects, { of: 0, ...subjects[0].first })];
  if (words.has("beside-head")) panes.push(readPane(words, "beside-", subjects, panes[0]));
  // What is there to be compared is shown so from the beginning.
  if (hash === "" && subjects.length > 1) {
    const { layer, head, token } = subjects[1].first;
    const same = sharesText(subjects[0], subjects[1]);
    panes.push({ of: 1, layer, head, token: same ? sameToken(subjects[0], panes[0].token, subjects[1]) : token });
  }
  return {
    panes,
    way: words.get("way") === "in" ? "in" : "out",
    withoutSink: words.get("sink") === "without",
  };
}

function writeAddress({ panes, way, withoutSink }) {
  const words = [];
  panes.forEach((pane, index) => {
    const before = index === 0 ? "" : "beside-";
    if (pane.of !== (index === 0 ? 0 : panes[0].of)) words.push(`${before}of=${pane.of}`);
    words.push(`${before}head=${writeHead(pane)}`, `${before}token=${pane.token}`);
  });
  if (way === "in") words.push("way=in");
  if (withoutSink) words.push("sink=without");
  return `#${words.join("&")}`;
}
