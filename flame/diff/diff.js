/* What a picture of differences adds to flamegraph.js: it takes the place of some functions there while the first
   sample type, the difference, is shown. The other two, before and after, look as any picture does. */

const { changes } = data;
const plain = { unpack, callersOf, amount, lookOf, labelAt, weightText, draw };
const SIDES = ["before", "after", "noise"];
const MIDDLE = (changes.shades.length - 1) / 2;
const LOCK = "5";
const legends = root.querySelectorAll("g.legend");
const isDifference = () => state.type === 0;

unpack = (data, index) => {
  const view = plain.unpack(data, index);
  for (const name of SIDES) view[name] = view[name]?.map((value) => value * view.scale);
  return view;
};

/* What stands out is less sure of merged frames: their noise is taken to be all of one kind, and adds up. */
callersOf = (whole, frame) => {
  const view = plain.callersOf(whole, frame);
  if (isDifference())
    for (const name of SIDES) view[name] = plain.callersOf({ ...whole, total: whole[name] }, frame).total;
  return view;
};

amount = (value, unit) => {
  if (changes.isShare) return percent(value, 1);
  const rounded = value < 100 ? Number(value.toPrecision(3)) : Math.round(value);
  return value ? plain.amount(rounded, unit) + changes.suffix : "0";
};

function stepOf(row) {
  const [before, after] = [view.before[row], view.after[row]];
  const change = after - before;
  if (Math.abs(change) <= view.noise[row]) return 0;
  const part = Math.abs(change) / Math.max(before, after);
  return Math.sign(change) * (1 + (part >= 0.25) + (part >= 0.5) + (part >= 1));
}

lookOf = (row) => {
  const frame = view.frame[row];
  if (!isDifference() || isMatch?.[frame]) return plain.lookOf(row);
  const isMarked = frames.kind[frame] === LOCK || view.contended[row] >= changes.contendedLeast * view.total[row];
  return [changes.shades[MIDDLE + stepOf(row)], isMarked ? "contended c5" : ""];
};

/* Edges of frames that differ in colour are one path: above all of these. */
draw = () => {
  legends.forEach((legend, index) => {
    legend.setAttribute("display", isDifference() === (index === 0) ? "inline" : "none");
  });
  const labels = plain.draw();
  layer.append(...layer.querySelectorAll(".edge, .dashed"));
  return labels;
};

labelAt = (row) => {
  if (!isDifference()) return plain.labelAt(row);
  const [before, after] = [view.before[row], view.after[row]];
  const frame = view.frame[row];
  if (frame < 0) return `all: ${amount(before, unit())} → ${amount(after, unit())} ${changes.measure}`;
  const sign = { [-MIDDLE]: "− ", [MIDDLE]: "+ " }[stepOf(row)] ?? "";
  return sign + labelOf(frame);
};

function changeText(before, after) {
  if (!before || !after) return after ? "new" : before ? "gone" : "±0 %";
  const change = (100 * (after - before)) / before;
  const size = Math.abs(change);
  if (size < 0.05) return "±0 %";
  let digits = size < 10 ? size.toFixed(1).replace(".0", "") : Math.round(size).toLocaleString("en");
  // Only what is gone is all of it.
  if (change < -99) digits = Math.min(size, 99.9).toFixed(1);
  return `${change > 0 ? "+" : "−"}${digits} %`;
}

weightText = (row) => {
  if (!isDifference()) return plain.weightText(row);
  const [before, after] = [view.before[row], view.after[row]];
  const side = (value, whole) =>
    amount(value, unit()) + (changes.isShare || !value ? "" : ` (${percent(value, whole)})`);
  const words = `before ${side(before, view.before[0])} → after ${side(after, view.after[0])}`;
  return `${words}, ${changeText(before, after)}${stepOf(row) ? "" : ", within the noise"}`;
};
