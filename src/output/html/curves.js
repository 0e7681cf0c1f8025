// Learning curves: an SVG of the width of the page, with values under the pointer or by arrow keys.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 300;
const EDGE = { left: 58, right: 14, top: 12, bottom: 40 };

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** About `count` round numbers from `low` to `high`. */
function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = decade * [1, 2, 5, 10].find((factor) => factor * decade >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high * (1 + 1e-12) + 1e-12; tick += 1) {
    ticks.push(tick * step);
  }
  return ticks;
}

/** Powers of ten between `low` and `high`; where there are few, their doubles and fives too. */
function logTicks(low, high) {
  const factors = high / low > 1000 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    ticks.push(...factors.map((factor) => factor * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

function tickText(value) {
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(0) : String(Number(value.toPrecision(6)));
}

/** The point of a series that is nearest to `step`; points are in order. */
function nearest(points, step) {
  let [first, last] = [0, points.length - 1];
  while (last - first > 1) {
    const middle = (first + last) >> 1;
    if (points[middle][0] < step) first = middle;
    else last = middle;
  }
  return step - points[first][0] < points[last][0] - step ? points[first] : points[last];
}

/** A chart of `series`: {name, colour, points: [[step, value], ...], isFaint}. */
class Chart {
  constructor(title, series, isLog) {
    this.series = series.map((one) => ({ ...one, isShown: true, all: one.points }));
    this.isLog = isLog;
    this.step = null;
    this.curves = [];
    const label = `${title}. Arrow keys move from step to step.`;
    this.svg = drawn("svg", { tabindex: "0", role: "img", "aria-label": label, height: HEIGHT });
    this.tip = element("div", { class: "tip", role: "status", hidden: true });
    this.box = element("div", { class: "chart" }, this.svg, this.tip);
    this.legend = element("div", { class: "legend", role: "group", "aria-label": "Curves to show" });
    this.series.forEach((one) => this.legend.append(this.legendButton(one)));
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.show(null));
    this.svg.addEventListener("blur", () => this.show(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  legendButton(one) {
    const swatch = element("span", { class: one.isFaint ? "swatch faint" : "swatch", "aria-hidden": "true" });
    swatch.style.background = one.colour;
    const button = element("button", { type: "button", "aria-pressed": "true" }, swatch, one.name);
    button.addEventListener("click", () => {
      one.isShown = !one.isShown;
      button.setAttribute("aria-pressed", String(one.isShown));
      this.draw();
    });
    return button;
  }

  setLog(isLog) {
    this.isLog = isLog;
    this.draw();
  }

  /** The series that are shown, with the points that their axis can show. */
  visible() {
    const fits = ([, value]) => value !== null && (!this.isLog || value > 0);
    const shownOnes = this.series.filter((one) => one.isShown);
    return shownOnes.map((one) => ({ ...one, points: one.all.filter(fits) })).filter((one) => one.points.length > 0);
  }

  draw() {
    this.svg.replaceChildren();
    this.width = Math.max(this.box.clientWidth, 240);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.curves = this.visible();
    const points = this.curves.flatMap((one) => one.points);
    if (points.length === 0) {
      this.svg.append(drawn("text", { x: EDGE.left, y: HEIGHT / 2 }, "no curve is shown"));
      this.show(null);
      return;
    }
    this.fit(points);
    this.drawAxes();
    this.curves.forEach((one) => this.drawCurve(one));
    this.mark = drawn("g", {});
    this.svg.append(this.mark);
    this.show(null);
  }

  /** Chooses what the axes span. */
  fit(points) {
    let [first, last, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [step, value] of points) {
      [first, last] = [Math.min(first, step), Math.max(last, step)];
      [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    if (first === last) [first, last] = [first - 1, last + 1];
    const [right, bottom] = [this.width - EDGE.right, HEIGHT - EDGE.bottom];
    const scale = this.isLog ? Math.log : (value) => value;
    const room = 0.04 * (scale(high) - scale(low)) || (this.isLog ? 0.1 : Math.abs(high) * 0.05 || 0.5);
    const [floor, ceiling] = [scale(low) - room, scale(high) + room];
    this.steps = [first, last];
    this.values = this.isLog ? [Math.exp(floor), Math.exp(ceiling)] : [floor, ceiling];
    this.x = (step) => EDGE.left + ((step - first) / (last - first)) * (right - EDGE.left);
    this.y = (value) => bottom - ((scale(value) - floor) / (ceiling - floor)) * (bottom - EDGE.top);
  }

  drawAxes() {
    const [right, bottom] = [this.width - EDGE.right, HEIGHT - EDGE.bottom];
    const rows = this.isLog ? logTicks(...this.values) : [];
    for (const value of rows.length > 1 ? rows : linearTicks(...this.values, 5)) {
      const y = this.y(value);
      this.svg.append(drawn("line", { x1: EDGE.left, x2: right, y1: y, y2: y, class: "grid" }));
      this.svg.append(drawn("text", { x: EDGE.left - 7, y: y + 4, "text-anchor": "end" }, tickText(value)));
    }
    const count = Math.max(2, Math.floor(this.width / 130));
    for (const step of linearTicks(...this.steps, count).filter(Number.isInteger)) {
      const x = this.x(step);
      this.svg.append(drawn("line", { x1: x, x2: x, y1: bottom, y2: bottom + 5, class: "grid" }));
      this.svg.append(drawn("text", { x, y: bottom + 19, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    this.svg.append(drawn("text", { x: (EDGE.left + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "step"));
  }

  drawCurve({ points, colour, isFaint }) {
    const path = points.map(([step, value]) => `${this.x(step).toFixed(1)},${this.y(value).toFixed(1)}`);
    const line = drawn("polyline", { points: path.join(" "), class: isFaint ? "curve faint" : "curve" });
    line.style.stroke = colour;
    this.svg.append(line);
    // A few points are told from a line by dots; a single one would not be seen at all.
    if (points.length > 60 || (isFaint && points.length > 1)) return;
    points.forEach(([step, value]) => this.dot(this.svg, step, value, colour, 3));
  }

  dot(parent, step, value, colour, radius) {
    const dot = drawn("circle", { cx: this.x(step), cy: this.y(value), r: radius });
    dot.style.fill = colour;
    parent.append(dot);
  }

  point(event) {
    if (this.curves.length === 0) return;
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width;
    const [first, last] = this.steps;
    const share = (x - EDGE.left) / (this.width - EDGE.left - EDGE.right);
    this.show(this.nearestStep(first + share * (last - first)));
  }

  nearestStep(step) {
    const found = this.curves.map((one) => nearest(one.points, step)[0]);
    return found.reduce((best, next) => (Math.abs(next - step) < Math.abs(best - step) ? next : best));
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    // Else the viewer turned to another slice.
    event.stopPropagation();
    if (this.curves.length === 0) return;
    const steps = [...new Set(this.curves.flatMap((one) => one.points.map(([step]) => step)))].sort((a, b) => a - b);
    const at = this.step === null ? (move > 0 ? -1 : steps.length) : steps.indexOf(this.step);
    this.show(steps[Math.min(Math.max(at + move, 0), steps.length - 1)]);
  }

  /** Shows the values at a step, or none. */
  show(step) {
    this.step = step;
    this.tip.hidden = step === null;
    if (this.mark) this.mark.replaceChildren();
    if (step === null || !this.mark) return;
    const x = this.x(step);
    this.mark.append(drawn("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: "grid" }));
    const lines = [element("strong", {}, `step ${step.toLocaleString("en")}`)];
    for (const { name, colour, isFaint, points } of this.curves) {
      const [at, value] = nearest(points, step);
      const swatch = element("span", { class: isFaint ? "swatch faint" : "swatch" });
      swatch.style.background = colour;
      const note = at === step ? "" : ` (step ${at.toLocaleString("en")})`;
      lines.push(element("div", {}, swatch, `${name} ${shown(value)}${note}`));
      this.dot(this.mark, at, value, colour, 4.5);
    }
    this.tip.replaceChildren(...lines);
    const isRight = x > this.width / 2;
    this.tip.style.left = isRight ? "" : `${x + 12}px`;
    this.tip.style.right = isRight ? `${this.width - x + 12}px` : "";
  }
}

/** Terms of the loss: in the names of columns, in words, colour. */
const TERMS = [
  ["total", "total", "var(--s2)"],
  ["ce", "cross entropy", "var(--s0)"],
  ["dice", "Dice loss", "var(--s1)"],
];
/** What is drawn of learning_curves.csv: column, name, colour, and whether the curve is faint, as those of training. */
const LOSSES = [["train", "training", true], ["eval", "validation", false]].flatMap(([group, part, isFaint]) =>
  TERMS.map(([term, name, colour]) => [`${group}_${term}_loss`, `${part}: ${name}`, colour, isFaint]));
const VALIDATION = [
  ["eval_dice_score", "soft Dice", "var(--s0)"],
  ["dice", "Dice", "var(--s1)"],
  ["mean_dice", "mean Dice", "var(--s2)"],
  ["v_rand_thin", "V_Rand", "var(--s3)"],
  ["v_info_thin", "V_Info", "var(--s5)"],
];

function seriesOf(run, columns) {
  return columns
    .filter(([key]) => (run.curves[key] || []).length > 0)
    .map(([key, name, colour, isFaint]) => ({ name, colour, isFaint, points: run.curves[key] }));
}

/** A checkbox for the axis of a chart of losses. */
function axisSwitch(chart) {
  const box = element("input", { type: "checkbox", checked: chart.isLog });
  box.addEventListener("change", () => chart.setLog(box.checked));
  return element("label", { class: "row" }, box, "logarithmic loss axis");
}

function showCurves(run) {
  const [losses, scores] = [seriesOf(run, LOSSES), seriesOf(run, VALIDATION)];
  if (losses.length + scores.length === 0) return;
  const part = section("Curves");
  if (losses.length > 0) {
    const chart = new Chart("Losses by training step", losses, true);
    part.append(element("h3", {}, "Losses"), axisSwitch(chart), chart.legend, chart.box);
  }
  if (scores.length > 0) {
    const chart = new Chart("Validation scores by training step", scores, false);
    part.append(element("h3", {}, "Validation scores"), chart.legend, chart.box);
  }
}

/** One measure of all runs, a curve each. */
function showComparedCurves(runs) {
  const measures = [...LOSSES, ...VALIDATION]
    .filter(([key]) => runs.some((run) => (run.curves[key] || []).length > 0));
  if (measures.length === 0) return;
  const choice = element("select", { id: "measure" },
    ...measures.map(([key, name]) => element("option", { value: key }, name)));
  const place = element("div");
  const draw = () => {
    const [key, name] = measures[choice.selectedIndex];
    const isLoss = LOSSES.some(([loss]) => loss === key);
    const series = runs
      .map((run, index) => ({ name: run.name, colour: `var(--s${index % 8})`, points: run.curves[key] || [] }))
      .filter((one) => one.points.length > 0);
    const chart = new Chart(`${name} by training step`, series, isLoss);
    place.replaceChildren(...(isLoss ? [axisSwitch(chart)] : []), chart.legend, chart.box);
  };
  choice.addEventListener("change", draw);
  section("Curves", element("div", { class: "row" }, element("label", { for: "measure" }, "Measure"), choice), place);
  draw();
}
