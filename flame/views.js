/* Views: trees as columns, drawn or not. Rows go level by level, each level from left to right, the root first. */

const WEIGHTS = ["total", "own", "contended"];

/** One of the views in the data, unpacked. Weights are in the unit of the sample type. */
function unpack(data, index) {
  const { like, scale } = data.views[index];
  const view = { ...data.views[like ?? index] };
  let before = -1;
  view.parent = view.parent.map((step) => {
    before += step;
    return before;
  });
  if (!view.contended.length) view.contended = view.total.map(() => 0);
  for (const name of [...WEIGHTS, "hidden"]) view[name] = view[name].map((value) => value * scale);
  return placed(view);
}

/** The view with each row's depth and left edge (in weight), and the first row of each level. */
function placed(view) {
  const { parent, total } = view;
  const next = new Float64Array(total.length);
  view.left = new Float64Array(total.length);
  view.depth = new Int32Array(total.length);
  view.levels = [0];
  for (let row = 0; row < total.length; row++) {
    const up = parent[row];
    if (up >= 0) {
      view.depth[row] = view.depth[up] + 1;
      view.left[row] = next[up];
      next[up] += total[row];
    }
    next[row] = view.left[row];
    if (view.depth[row] === view.levels.length) view.levels.push(row);
  }
  view.levels.push(total.length);
  return view;
}

/** All callers of a function, merged from it on. A function that calls itself counts where it was called first. */
function callersOf(view, frame) {
  const { parent } = view;
  const made = (frame) => ({ frame, total: 0, own: 0, contended: 0, below: new Map() });
  const root = made(-1);
  const holds = new Uint8Array(parent.length);
  for (let row = 1; row < parent.length; row++) {
    const isInside = holds[parent[row]];
    holds[row] = isInside || view.frame[row] === frame;
    if (isInside || !holds[row]) continue;
    let node = root;
    for (let at = row; ; at = parent[at]) {
      node.total += view.total[row];
      node.contended += view.contended[row];
      if (at <= 0) break;
      const id = view.frame[at];
      if (!node.below.has(id)) node.below.set(id, made(id));
      node = node.below.get(id);
    }
    node.own += view.total[row];
  }
  const result = { parent: [-1], frame: [], total: [], own: [], contended: [], hidden: [], leftOut: 0, paths: [] };
  const queue = [root];
  for (let row = 0; row < queue.length; row++) {
    for (const name of ["frame", ...WEIGHTS]) result[name].push(queue[row][name]);
    const callers = [...queue[row].below.values()].sort((one, other) => one.frame - other.frame);
    for (const caller of callers) {
      result.parent.push(row);
      queue.push(caller);
    }
  }
  return placed(result);
}

/** How many frames match, which, and the share of all weight that they cover together. */
function found(view, isMatch) {
  const covered = new Uint8Array(view.parent.length);
  let count = 0;
  let weight = 0;
  for (let row = 1; row < covered.length; row++) {
    const matches = isMatch[view.frame[row]];
    const isCovered = covered[view.parent[row]];
    count += matches;
    if (matches && !isCovered) weight += view.total[row];
    covered[row] = matches || isCovered;
  }
  return { count, share: view.total[0] ? weight / view.total[0] : 0 };
}

/** A test of names, from what was typed: letters in lower case stand for both. Throws for a bad expression. */
function matcher(text, isRegex) {
  const ignoresCase = text === text.toLowerCase();
  if (isRegex) {
    const expression = new RegExp(text, ignoresCase ? "iu" : "u");
    return (name) => expression.test(name);
  }
  return (name) => (ignoresCase ? name.toLowerCase() : name).includes(text);
}

/** The rows of one level that overlap [left, right), as [first, end). */
function rowsWithin(view, level, left, right) {
  const first = (edge) => {
    let low = view.levels[level];
    let high = view.levels[level + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (view.left[middle] < edge) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [first(left), first(right)];
}

function childrenOf(view, row) {
  const level = view.depth[row] + 1;
  if (level + 1 >= view.levels.length) return [];
  const [first, end] = rowsWithin(view, level, view.left[row], view.left[row] + view.total[row]);
  return Array.from({ length: end - first }, (_, index) => first + index);
}

/** From the row to the root. */
function pathOf(view, row) {
  const path = [];
  for (let at = row; at >= 0; at = view.parent[at]) path.push(at);
  return path;
}

function percent(part, whole) {
  if (!part || !whole) return "0 %";
  const share = (100 * part) / whole;
  if (share < 0.05) return "<0.1 %";
  if (share >= 99.95 && share < 100) return ">99.9 %";
  return `${share.toFixed(1).replace(".0", "")} %`;
}

function amount(value, unit) {
  const scales = {
    nanoseconds: [
      [1e9, "s"],
      [1e6, "ms"],
      [1e3, "µs"],
    ],
    bytes: [
      [2 ** 30, "GiB"],
      [2 ** 20, "MiB"],
      [2 ** 10, "KiB"],
    ],
  };
  for (const [factor, name] of scales[unit] ?? []) {
    if (value >= factor) return `${Number((value / factor).toPrecision(3)).toLocaleString("en")} ${name}`;
  }
  const text = value.toLocaleString("en");
  return unit === "count" ? text : `${text} ${unit === "nanoseconds" ? "ns" : unit}`;
}
