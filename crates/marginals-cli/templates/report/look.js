// Where tokens look, and who looks at them, from the sparse lists.

const LEAST = 0.0005;
// Less than this beside the sink is too little to say how it is divided.
const LEAST_REST = 0.01;

const share = (subject, level) => (level / subject.posteriors.levels) ** 2;

// Indices of the heads that a layer ("all" or a number) and a head ("mean" or a number) stand for.
function headsOf(subject, { layer, head }) {
  const all = (count) => Array.from({ length: count }, (_, index) => index);
  if (layer === "all") return all(subject.layers * subject.heads);
  if (head === "mean") return all(subject.heads).map((index) => layer * subject.heads + index);
  return [layer * subject.heads + head];
}

// The key that these heads together look at most.
function sinkOf(subject, heads) {
  if (heads.length === 1) return subject.posteriors.columns[heads[0]];
  const { lists, tokens } = subject;
  const mass = new Float64Array(tokens.length);
  for (const head of heads) {
    const end = lists.starts[(head + 1) * tokens.length];
    for (let at = lists.starts[head * tokens.length]; at < end; at++) {
      mass[lists.keys[at]] += share(subject, lists.levels[at]);
    }
  }
  return mass.reduce((best, sum, key) => (sum > mass[best] ? key : best), 0);
}

// The mean over heads of the posterior of `token`, or of that of every token at it.
//
// `found` holds pairs of a token and its share, largest first; `missing` is what the lists do not hold of
// a posterior; `rest` is what lies beside the sink of `token`'s own, where that is left out.
function look(subject, heads, token, way, withoutSink) {
  const { lists, tokens } = subject;
  const sink = withoutSink ? sinkOf(subject, heads) : -1;
  const shares = new Float64Array(tokens.length);
  const rests = new Float64Array(tokens.length).fill(1);
  const queries = way === "out" ? [token] : tokens.keys();
  for (const query of queries) {
    for (const head of heads) {
      const list = head * tokens.length + query;
      for (let at = lists.starts[list]; at < lists.starts[list + 1]; at++) {
        const key = lists.keys[at];
        const mean = share(subject, lists.levels[at]) / heads.length;
        if (key === sink) rests[query] -= mean;
        else if (way === "out") shares[key] += mean;
        else if (key === token) shares[query] += mean;
      }
    }
  }
  const found = [];
  let missing = 1;
  shares.forEach((mass, other) => {
    const rest = rests[way === "out" ? token : other];
    const part = rest < LEAST_REST ? 0 : Math.min(1, mass / rest);
    if (part < LEAST) return;
    found.push([other, part]);
    missing -= part;
  });
  found.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  return { found, missing: Math.max(0, missing), sink, rest: rests[token] };
}

// Whether two subjects read the same text, or one the beginning of the other's.
function sharesText(a, b) {
  return a.text.startsWith(b.text) || b.text.startsWith(a.text);
}

// The token of another subject at the same place of the same text.
function sameToken(from, token, to) {
  const place = from.tokens[token].start;
  let best = 0;
  to.tokens.forEach((candidate, index) => {
    if (candidate.start <= place && (candidate.end > place || candidate.start > to.tokens[best].start)) best = index;
  });
  return best;
}

// Text of a token on one line.
function visible(text) {
  return text.trim() === "" ? text.replace(/\n/g, "⏎").replace(/ /g, "␣") : text.trim();
}
