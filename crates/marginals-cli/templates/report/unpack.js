// Sparse posteriors as the page carries them, described in `packed.rs`.

// Lists of all heads and queries: list l = head × queries + query has the keys keys[starts[l]] … and the
// levels of their probabilities likewise, up to starts[l + 1].
async function unpack(stream, packed, heads, queries) {
  const letters = atob(stream);
  const compressed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) compressed[at] = letters.charCodeAt(at);
  const inflated = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(inflated).arrayBuffer());

  const lists = heads * queries;
  const counts = bytes.subarray(2 * lists, 3 * lists);
  const others = counts.reduce((sum, count) => sum + count, 0);
  const plane = (index) => bytes.subarray(3 * lists + index * others, 3 * lists + (index + 1) * others);
  const gaps = Array.from({ length: packed.key_bytes }, (_, index) => plane(index));
  const [low, high] = [plane(packed.key_bytes), plane(packed.key_bytes + 1)];

  const starts = new Uint32Array(lists + 1);
  const keys = new Uint32Array(lists + others);
  const levels = new Uint16Array(lists + others);
  let from = 0;
  let to = 0;
  for (let list = 0; list < lists; list++) {
    const column = bytes[list] + 256 * bytes[lists + list];
    if (column > 0) {
      keys[to] = packed.columns[Math.floor(list / queries)];
      levels[to++] = column;
    }
    let last = packed.ahead ? queries : (list % queries) + 1;
    for (const end = from + counts[list]; from < end; from++) {
      let gap = 0;
      for (let byte = 0; byte < gaps.length; byte++) gap += gaps[byte][from] * 256 ** byte;
      last -= gap + 1;
      keys[to] = last;
      levels[to++] = low[from] + 256 * high[from];
    }
    starts[list + 1] = to;
  }
  return { starts, keys, levels };
}
