/* The picture made interactive. Without this script it is the same picture, standing still.
   Frames of one look are one path: ten thousand elements would take half a second to draw. */

const SVG = "http://www.w3.org/2000/svg";
const HTML = "http://www.w3.org/1999/xhtml";
const TOOLS_HEIGHT = 62;
const ANIMATION_MS = 180;
const LABELS_AT_ONCE = 250;

const root = document.currentScript.closest("svg");
const data = JSON.parse(root.querySelector("script.data").textContent);
const { geometry, frames, types } = data;
const WIDTH = geometry.width - 2 * geometry.margin;
// Within a page the address is the page's.
const isAlone = document.documentElement === root;
const on = (element, type, act) => element.addEventListener(type, act);
const inlined = new Set(frames.inlined);

const state = { view: data.inverted ? "inverted" : "callees", type: 0, fn: -1, zoom: 0, search: "", regex: false };
const START = { ...state };
let view;
let isMatch = null;
let cursor = 0;
let hovered = -1;
let rowHeight;
let later = 0;

const make = (name, attributes = {}, parent = null, space = SVG) => {
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
};
const html = (name, attributes, parent, text = "") => {
  const element = make(name, attributes, parent, HTML);
  element.textContent = text;
  return element;
};

/* What stands still goes; its tooltips, which know lines of source, are kept. */
const still = root.querySelector("g.frames");
const places = [...still.querySelectorAll("title")].map((title) => title.textContent.split("\n").slice(2));
const foot = root.querySelector("g.foot");
const top = geometry.top + TOOLS_HEIGHT;
const bar = make(
  "foreignObject",
  { x: geometry.margin, y: geometry.top - 4, width: WIDTH, height: TOOLS_HEIGHT },
  root,
);
const tools = html("div", { class: "tools" }, bar);
const graph = make("svg", { class: "graph", x: geometry.margin, y: top, width: WIDTH, role: "tree" });
still.replaceWith(graph);
root.setAttribute("role", "group");
const layer = make("g", { class: "layer" }, graph);
const marks = make("g", {}, graph);
const tipBox = make("foreignObject", { class: "tipbox", width: 620, height: 1, "aria-hidden": "true" }, root);
const tip = html("div", { class: "tip" }, tipBox);

/* The tools. */
tools.innerHTML = [
  '<div><input type="search" placeholder="Search functions ( / )" aria-label="Search functions" spellcheck="false"/>',
  '<label title="Search by regular expression"><input type="checkbox"/>regex</label>',
  '<output aria-live="polite"></output>',
  '<select aria-label="View"><option value="callees">From the root</option>',
  '<option value="inverted">Inverted: from the leaf</option>',
  '<option value="callers">Callers of one function</option></select>',
  '<select aria-label="Sample type"></select>',
  '<button type="button" title="All callers of this function, merged (c)">Merge callers</button>',
  '<button type="button" title="Copy this stack, leaf first">Copy stack</button>',
  '<button type="button" title="Whole picture, no search (Escape)">Reset</button></div>',
  '<nav class="crumbs" aria-label="Zoomed path"></nav>',
].join("");
const [searchInput, regexInput] = tools.querySelectorAll("input");
const [viewSelect, typeSelect] = tools.querySelectorAll("select");
const [matches, crumbs] = tools.querySelectorAll("output, nav");
types.forEach(({ name }, value) => {
  html("option", { value }, typeSelect, name);
});
typeSelect.hidden = types.length < 2;

/* Names and texts. */
const nameOf = (frame) => (frame < 0 ? "all" : frames.name[frame]);
const labelOf = (frame) => (frame < 0 ? "all" : frames.label[frame] || frames.name[frame]);
const unit = () => types[state.type].unit;
const current = () => (cursor > 0 ? cursor : state.zoom);
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function weightText(row) {
  const [total, own, contended, whole] = [view.total[row], view.own[row], view.contended[row], view.total[0]];
  let text = `${amount(total, unit())} (${percent(total, whole)})`;
  if (own && own !== total && state.view === "callees")
    text += `, self ${amount(own, unit())} (${percent(own, whole)})`;
  if (contended) text += `, contended ${percent(contended, total)} of it`;
  return text;
}

function details(row) {
  const frame = view.frame[row];
  let measured = weightText(row);
  if (frame < 0) return ["all", measured];
  const module = frames.modules[frames.module[frame]];
  measured += `, ${["user", "kernel", "JIT", "marker", "", "lock"][frames.kind[frame]]}${module ? `, in ${module}` : ""}`;
  const lines = state.view === START.view && state.type === 0 ? places[row] : source(frame);
  return [cut(nameOf(frame), 1000) + (inlined.has(frame) ? " (inlined)" : ""), measured, ...lines];
}

function source(frame) {
  const file = frames.files[frames.file[frame]];
  return file ? [frames.line[frame] > 0 ? `${file}:${frames.line[frame]}` : file] : [];
}

/* Drawing. */
const isDown = () => state.view !== "callees";
const yOf = (depth) => (isDown() ? depth : view.levels.length - 2 - depth) * rowHeight;

/** The weights that the picture is between. */
const windowed = () => ({ left: view.left[state.zoom], width: view.total[state.zoom] });

const outline = (x, y, width, height) => `M${x.toFixed(2)} ${y}h${width.toFixed(2)}v${height}h${(-width).toFixed(2)}z`;

function boxOf(row) {
  const { left, width: whole } = windowed();
  const isAbove = view.depth[row] <= view.depth[state.zoom];
  const scale = WIDTH / whole;
  const x = isAbove ? 0 : (view.left[row] - left) * scale;
  return { x, y: yOf(view.depth[row]), width: isAbove ? WIDTH : view.total[row] * scale };
}

function* visible() {
  const path = pathOf(view, state.zoom).reverse();
  yield* path;
  const { left, width } = windowed();
  const least = (geometry.minWidth * width) / WIDTH;
  for (let level = path.length; level < view.levels.length - 1; level++) {
    const [first, end] = rowsWithin(view, level, left, left + width);
    if (first === end) return;
    for (let row = first; row < end; row++) if (view.total[row] >= least) yield row;
  }
}

function lookOf(row) {
  const frame = view.frame[row];
  if (isMatch && frame >= 0 && isMatch[frame]) return ["", "match"];
  const share = view.contended[row] / view.total[row];
  if (share >= 0.05) {
    const level = Math.min(5, Math.floor(share * 5) + 1);
    return [data.contended[level - 1], `contended c${level}`];
  }
  return [frame < 0 ? data.palettes[4][0] : data.palettes[frames.kind[frame]][frames.shade[frame]], ""];
}

function draw() {
  clearTimeout(later);
  const paths = new Map();
  const labels = [];
  const height = rowHeight - 1;
  const add = (key, d) => paths.set(key, (paths.get(key) ?? "") + d);
  const least = ((rowHeight * 2) / 3) * 2.3;
  const zoomDepth = view.depth[state.zoom];
  for (const row of visible()) {
    const { x, y, width } = boxOf(row);
    const inner = width > 3 ? width - 1 : width * 0.75;
    const [fill, style] = lookOf(row);
    const above = view.depth[row] < zoomDepth ? " above" : "";
    add(`${fill}|${style}${above}`, outline(x, y, inner, height));
    if (width > 5) {
      const line = outline(x + 1, y + 1, inner - 2, height - 2);
      if (style.startsWith("contended")) add(`none|edge ${style.slice(-2)}`, line);
      if (inlined.has(view.frame[row])) add("none|dashed", line);
    }
    if (width > least) labels.push({ row, x, y, width });
  }
  layer.replaceChildren();
  for (const [key, d] of paths) {
    const [fill, style] = key.split("|");
    const path = make("path", { d, class: style }, layer);
    if (fill) path.setAttribute("fill", fill);
  }
  layer.classList.toggle("searching", isMatch !== null);
  labels.sort((one, other) => other.width - one.width);
  return labels;
}

function labelAt(row) {
  const frame = view.frame[row];
  return frame < 0 ? `all: ${amount(view.total[0], unit())} ${types[state.type].name}` : labelOf(frame);
}

function drawLabels(labels) {
  const size = (rowHeight * 2) / 3;
  const group = make("g", { class: "labels", "font-size": size.toFixed(1) }, layer);
  const write = (some) => {
    for (const { row, x, y, width } of some) {
      const characters = Math.floor((width - 6) / (size * 0.602));
      make("text", { x: (x + 3).toFixed(1), y: y + rowHeight / 2 }, group).textContent = cut(labelAt(row), characters);
    }
  };
  write(labels.slice(0, LABELS_AT_ONCE));
  // The many small ones come when the picture stands.
  if (labels.length > LABELS_AT_ONCE) later = setTimeout(() => write(labels.slice(LABELS_AT_ONCE)), 60);
}

/** Draws the present state, moving from the window [left, width) of before if there is one. */
function show(before = null) {
  const labels = draw();
  const isStill = before === null || matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (isStill) drawLabels(labels);
  else {
    const { left, width } = windowed();
    const shift = ((left - before.left) / before.width) * WIDTH;
    const from = `translate(${shift}px, 0) scale(${width / before.width}, 1)`;
    const moving = layer.animate([{ transform: from }, { transform: "none" }], {
      duration: ANIMATION_MS,
      easing: "ease-out",
    });
    const drawn = layer.firstChild;
    moving.onfinish = () => layer.firstChild === drawn && drawLabels(labels);
  }
  showCrumbs();
  placeCursor();
  hideTip();
}

function showCrumbs() {
  const path = pathOf(view, state.zoom).reverse();
  const shown = path.length > 9 ? [...path.slice(0, 2), -1, ...path.slice(-6)] : path;
  crumbs.replaceChildren();
  for (const row of shown) {
    if (row < 0) crumbs.append(" › …");
    else {
      if (row) crumbs.append(" › ");
      const name = labelOf(view.frame[row]);
      const crumb = html("button", { type: "button", title: name }, crumbs, cut(name, 32));
      on(crumb, "click", () => go({ zoom: row }));
      if (row === state.zoom) crumb.setAttribute("aria-current", "true");
    }
  }
  const notes = [];
  if (state.view === "callers" && state.fn >= 0) {
    notes.push(`callers of ${cut(labelOf(state.fn), 50)}`);
    if (view.unseen)
      notes.push(
        `up to ${percent(view.unseen, view.total[0] + view.unseen)} of its weight is in frames too narrow to see`,
      );
  } else if (state.view !== START.view && view.leftOut)
    notes.push(`${view.leftOut.toLocaleString("en")} branches narrower than ${geometry.minWidth} px left out`);
  html("span", { class: "note" }, crumbs, notes.join(", "));
}

/* The cursor is the one frame that can have the focus. */
function placeCursor(hasFocus = false) {
  if (cursor && !isShown(cursor)) cursor = 0;
  const at = cursor || state.zoom;
  const { x, y, width } = boxOf(at);
  const old = marks.querySelector(".cursor");
  const keeps = hasFocus || (old !== null && old === document.activeElement);
  const box = make("rect", {
    class: "cursor",
    x: x + 1,
    y: y + 0.5,
    width: Math.max(1, width - 2),
    height: rowHeight - 2,
    tabindex: 0,
    role: "treeitem",
    "aria-level": view.depth[at] + 1,
    "aria-label": details(at).slice(0, 2).join(", "),
  });
  on(box, "focus", () => box.matches(":focus-visible") && showTip(at));
  on(box, "blur", hideTip);
  if (old) old.replaceWith(box);
  else marks.append(box);
  if (keeps) box.focus({ preventScroll: true });
  if (hasFocus && box.matches(":focus-visible")) box.scrollIntoView?.({ block: "nearest", inline: "nearest" });
}

function isShown(row) {
  if (pathOf(view, state.zoom).includes(row)) return true;
  const isLarge = view.total[row] * WIDTH >= geometry.minWidth * view.total[state.zoom];
  return isLarge && pathOf(view, row).includes(state.zoom);
}

function showTip(row) {
  const [name, ...lines] = details(row);
  tip.replaceChildren();
  html("b", { dir: "auto" }, tip, name);
  for (const line of lines) html("div", {}, tip, line);
  tip.classList.add("shown");
  const { x, y, width } = boxOf(row);
  const below = top + y + rowHeight + 6;
  const height = tip.offsetHeight;
  const isBelow = below + height < Number(root.viewBox.baseVal.height);
  tipBox.setAttribute("x", Math.max(0, Math.min(geometry.margin + x + Math.min(width / 4, 60), geometry.width - 630)));
  tipBox.setAttribute("y", isBelow ? below : Math.max(0, top + y - height - 6));
}

function hideTip() {
  tip.classList.remove("shown");
}

function hover(row) {
  if (row === hovered) return;
  hovered = row;
  marks.querySelector(".hover")?.remove();
  if (row < 0) return hideTip();
  const { x, y, width } = boxOf(row);
  marks.prepend(
    make("rect", { class: "hover", x: x + 0.5, y: y + 0.5, width: Math.max(1, width - 2), height: rowHeight - 2 }),
  );
  showTip(row);
}

/** The frame under the pointer, or -1. */
function rowAt(event) {
  const box = graph.getScreenCTM().inverse();
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(box);
  const level = Math.floor(point.y / rowHeight);
  const depth = isDown() ? level : view.levels.length - 2 - level;
  if (depth < 0 || depth >= view.levels.length - 1) return -1;
  if (depth <= view.depth[state.zoom]) return pathOf(view, state.zoom)[view.depth[state.zoom] - depth];
  const { left, width } = windowed();
  const weight = left + (point.x / WIDTH) * width;
  const [, end] = rowsWithin(view, depth, 0, weight);
  const row = end - 1;
  const isHit = row >= view.levels[depth] && weight < view.left[row] + view.total[row] && isShown(row);
  return isHit ? row : -1;
}

/* The state, here and in the address. */
const unpacked = new Map();
function viewAt(index) {
  if (!unpacked.has(index)) unpacked.set(index, unpack(data, index));
  return unpacked.get(index);
}

function loadView() {
  const whole = viewAt(2 * state.type + (state.view === "inverted" ? 1 : 0));
  view = whole;
  if (state.view === "callers" && state.fn >= 0) {
    view = callersOf(whole, state.fn);
    view.unseen = whole.hidden[state.fn] ?? 0;
  }
  rowHeight = Math.max(
    geometry.minRowHeight,
    Math.min(geometry.rowHeight, Math.floor(geometry.framesHeight / (view.levels.length - 1))),
  );
  const height = rowHeight * (view.levels.length - 1);
  const shift = top + height - geometry.bottom;
  graph.setAttribute("height", height);
  foot.setAttribute("transform", `translate(0 ${shift})`);
  root.setAttribute("viewBox", `0 0 ${geometry.width} ${geometry.height + shift}`);
  cursor = 0;
  hovered = -1;
}

function search() {
  isMatch = null;
  let said = "";
  searchInput.removeAttribute("aria-invalid");
  if (state.search) {
    try {
      isMatch = frames.name.map(matcher(state.search, state.regex));
      const { count, share } = found(view, isMatch);
      said = `${count.toLocaleString("en")} ${count === 1 ? "frame" : "frames"}, ${percent(share, 1)}`;
    } catch {
      searchInput.setAttribute("aria-invalid", "true");
      said = "no valid expression";
    }
  }
  matches.textContent = said;
  if (searchInput.value !== state.search) searchInput.value = state.search;
  regexInput.checked = state.regex;
}

/** Changes the state and shows it; `address` says how it gets into the address: "push", "replace" or "keep". */
function go(change, address = "push") {
  const isSameView = ["view", "type", "fn"].every((key) => !(key in change) || change[key] === state[key]);
  const isZoom = isSameView && "zoom" in change && change.zoom !== state.zoom;
  const before = view && isZoom && address !== "keep" ? windowed() : null;
  if (!isSameView) state.zoom = 0;
  Object.assign(state, change);
  if (state.view === "callers" && state.fn < 0) state.view = "callees";
  if (!view || !isSameView) loadView();
  if (!(state.zoom < view.total.length)) state.zoom = 0;
  viewSelect.value = state.view;
  viewSelect.options[2].disabled = state.fn < 0;
  typeSelect.value = state.type;
  search();
  show(before);
  if (isAlone && address !== "keep") writeAddress(address);
}

function addressOf() {
  const words = new URLSearchParams();
  for (const key of Object.keys(START)) if (state[key] !== START[key]) words.set(key, state[key]);
  return words.toString();
}

function writeAddress(how) {
  const hash = addressOf();
  if (location.hash.slice(1) === hash) return;
  if (how === "push") location.hash = hash;
  else location.replace(`#${hash}`);
}

/** The state that the address asks for. It may be anybody's: what isn't possible is left out. */
function readAddress() {
  if (view && location.hash.slice(1) === addressOf()) return;
  const words = new URLSearchParams(location.hash.slice(1));
  const number = (key, most) => {
    const value = Number(words.get(key) ?? START[key]);
    return Number.isInteger(value) && value >= 0 && value < most ? value : START[key];
  };
  const kind = words.get("view");
  go(
    {
      view: [...viewSelect.options].some(({ value }) => value === kind) ? kind : START.view,
      type: number("type", types.length),
      fn: number("fn", frames.name.length),
      search: words.get("search") ?? "",
      regex: words.has("regex"),
    },
    "keep",
  );
  go({ zoom: number("zoom", view.total.length) }, "keep");
}

function showCallers() {
  const fn = view.frame[current()];
  if (fn >= 0) go({ view: "callers", fn });
}

async function copyStack() {
  const path = pathOf(view, current())
    .filter((row) => row > 0)
    .map((row) => nameOf(view.frame[row]));
  const text = (isDown() ? path.reverse() : path).join("\n");
  try {
    await navigator.clipboard.writeText(text);
    matches.textContent = `${path.length} frames copied`;
  } catch {
    // Not allowed, or no secure context; a document that is SVG has no other way.
    const area = html("textarea", { rows: 1, readonly: "" });
    area.value = text;
    crumbs.replaceChildren(area);
    area.select();
    on(area, "blur", showCrumbs);
    matches.textContent = "Ctrl-C copies the stack";
  }
}

/* Keys. */
function move(step) {
  const at = current();
  const isToChild = step === (isDown() ? "ArrowDown" : "ArrowUp");
  let next = view.parent[at];
  if (isToChild) {
    next = childrenOf(view, at).reduce(
      (best, row) => (best < 0 || view.total[row] > view.total[best] ? row : best),
      -1,
    );
  } else if (step === "ArrowLeft" || step === "ArrowRight") {
    const siblings = next < 0 ? [at] : childrenOf(view, next);
    next = siblings[siblings.indexOf(at) + (step === "ArrowLeft" ? -1 : 1)] ?? -1;
  }
  if (next >= 0 && isShown(next)) {
    cursor = next;
    placeCursor(true);
  }
}

function onKey(event) {
  const isSearching = event.target === searchInput;
  if (
    (event.key === "f" && (event.ctrlKey || event.metaKey) && !isSearching) ||
    (event.key === "/" && !event.target.closest?.("input"))
  ) {
    searchInput.focus();
    searchInput.select();
  } else if (event.key === "Escape") {
    if (state.search) go({ search: "" });
    else go({ zoom: 0 });
    if (isSearching) placeCursor(true);
  } else if (
    event.ctrlKey ||
    event.altKey ||
    event.metaKey ||
    event.target.closest?.("input, select, button, textarea, .path")
  )
    return;
  else if (event.key.startsWith("Arrow")) move(event.key);
  else if (event.key === "Enter" || event.key === " ") go({ zoom: current() });
  else if (event.key === "c") showCallers();
  else return;
  event.preventDefault();
}

on(isAlone ? document : root, "keydown", onKey);
on(graph, "pointermove", (event) => hover(rowAt(event)));
on(graph, "pointerleave", () => hover(-1));
on(graph, "click", (event) => {
  const at = rowAt(event);
  if (at < 0) return;
  cursor = at;
  go({ zoom: at });
  placeCursor(true);
});
on(searchInput, "input", () => go({ search: searchInput.value }, "replace"));
on(regexInput, "change", () => go({ regex: regexInput.checked }, "replace"));
[showCallers, copyStack, () => go(START)].forEach((act, index) => {
  on(tools.querySelectorAll("button")[index], "click", act);
});
on(viewSelect, "change", () => go({ view: viewSelect.value }));
on(typeSelect, "change", () => go({ type: Number(typeSelect.value) }));
if (isAlone) on(window, "hashchange", readAddress);

/* The worst lock paths lead to their frames. */
root.querySelectorAll("g.path").forEach((path, index) => {
  for (const [key, value] of [
    ["role", "button"],
    ["tabindex", 0],
  ])
    path.setAttribute(key, value);
  const lead = () => {
    go({ view: "callees", type: 0, zoom: viewAt(0).paths[index] });
    placeCursor(true);
  };
  on(path, "click", lead);
  on(path, "keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    lead();
  });
});
