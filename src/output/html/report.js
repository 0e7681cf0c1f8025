// The report: reads the JSON of this file and builds the page. What comes from users is only ever set as text.
"use strict";

/** An element with attributes and children, which are elements or text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A headed part of the page. */
function section(title, ...children) {
  const id = `part-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  const part = element("section", { "aria-labelledby": id }, element("h2", { id }, title), ...children);
  document.getElementById("main").append(part);
  return part;
}

/** A table that scrolls by itself. Cells are text or elements; those of `numeric` columns are set to the right. */
function table(caption, header, rows, numeric = () => false) {
  const cell = (name, content, column, extra = {}) =>
    element(name, { class: numeric(column) ? "number" : "value", ...extra }, content);
  const head = element("tr", {}, ...header.map((text, column) => cell("th", text, column, { scope: "col" })));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((content, column) =>
      column === 0 ? element("th", { scope: "row" }, content) : cell("td", content, column))));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

/** Four decimals, more digits for small values; a dash for what is not known. */
function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) >= 10) return value.toLocaleString("en");
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(3) : value.toFixed(4);
}

/** A setting in one line; of a long list its length and its beginning. */
function setting(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value) && value.length > 12) return `${value.length}: ${value.slice(0, 8).join(", ")}, …`;
  if (Array.isArray(value) && value.every((part) => typeof part !== "object")) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Words for the keys of eval.json, in the order in which they are shown. */
const SCORES = {
  dice: ["Dice", "overlap of the pixels inside; higher is better"],
  iou: ["IoU", "intersection over union of the same; higher is better"],
  mean_dice: ["mean Dice", "over the classes that the labels have; higher is better"],
  mean_iou: ["mean IoU", "over the classes that the labels have; higher is better"],
  accuracy: ["accuracy", "share of the pixels whose class is right; higher is better"],
  v_rand_thin: ["V_Rand", "Rand score of the challenge, after border thinning; higher is better"],
  v_info_thin: ["V_Info", "information score of the challenge, after border thinning; higher is better"],
  rand_error_2012: ["Rand error", "as the challenge of 2012 had it; lower is better"],
  pixel_error_2012: ["pixel error", "as the challenge of 2012 had it; lower is better"],
  eval_dice_score: ["soft Dice", "of the probabilities, all classes; higher is better"],
  eval_total_loss: ["total loss", "cross entropy and Dice loss; lower is better"],
  eval_ce_loss: ["cross entropy", "nats per pixel; lower is better"],
  eval_dice_loss: ["Dice loss", "1 - soft Dice; lower is better"],
  ignored_pixels: ["ignored pixels", "whose label is of no class"],
};

/** The name of a score, and in which direction it is good. */
function words(key) {
  return SCORES[key] || [key.replace(/_/g, " "), ""];
}

function scoresOf(run) {
  const rows = Object.keys(SCORES)
    .filter((key) => typeof run.scores[key] === "number" && !(key === "ignored_pixels" && run.scores[key] === 0))
    .map((key) => {
      const threshold = run.scores[`${key}_threshold`];
      const at = typeof threshold === "number" ? `, at threshold ${threshold.toFixed(1)}` : "";
      return [words(key)[0], shown(run.scores[key]), words(key)[1] + at];
    });
  return table("Scores", ["score", "value", "meaning"], rows, (column) => column === 1);
}

function classesOf(run) {
  const pixels = run.scores.classes.reduce((sum, one) => sum + one.support, 0);
  const share = (count) => (pixels > 0 ? `${((100 * count) / pixels).toFixed(2)} %` : "–");
  const rows = run.scores.classes.map((one) =>
    [one.name, ...["dice", "iou", "precision", "recall"].map((key) => shown(one[key])), share(one.support)]);
  const header = ["class", "Dice", "IoU", "precision", "recall", "share of pixels"];
  return table("Scores of each class", header, rows, (column) => column > 0);
}

/** Each row is a class of the labels: where its pixels went, as shares and counts. */
function matrixOf(run) {
  const names = run.scores.classes.map((one) => one.name);
  const rows = run.scores.confusion.map((counts, label) => {
    const sum = counts.reduce((left, right) => left + right, 0);
    const cells = counts.map((count) => {
      const share = sum > 0 ? count / sum : 0;
      const cell = element("td", {}, sum > 0 ? `${(100 * share).toFixed(1)} %` : "–",
        element("small", {}, count.toLocaleString("en")));
      cell.style.background = `color-mix(in srgb, var(--shade) ${(55 * share).toFixed(1)}%, transparent)`;
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row" }, names[label]), ...cells);
  });
  const head = ["label \\ predicted", ...names].map((name) => element("th", { scope: "col" }, name));
  const made = element("table", { class: "matrix" }, element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows));
  const label = "Confusion matrix: rows are labels, columns predictions";
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, made);
}

/** All that one run has beside curves and slices. */
function showScores(run) {
  if (!run.scores) {
    section("Scores", element("p", { class: "soft" }, "Not evaluated yet: --exec_mode evaluate writes eval.json."));
    return;
  }
  const part = section("Scores", scoresOf(run));
  if (!Array.isArray(run.scores.classes) || !Array.isArray(run.scores.confusion)) return;
  part.append(element("div", { class: "columns" },
    element("div", {}, element("h3", {}, "By class"), classesOf(run)),
    element("div", {}, element("h3", {}, "Confusion matrix"),
      element("p", { class: "soft" }, "Rows are labels, columns predictions; shares are of a row."), matrixOf(run))));
}

/** The name of a run, which leads to its own report where it has one. */
function named(run) {
  if (!run.page) return run.name;
  return element("a", { href: run.page.split("/").map(encodeURIComponent).join("/") }, run.name);
}

/** Scores of each class in several runs. */
function showComparedClasses(runs, rows) {
  if (rows.length === 0) return;
  const cells = rows.map((row) =>
    [`${row.class}: ${words(row.key)[0]}`, ...row.values.map(shown), shown(row.mean), shown(row.deviation)]);
  const header = ["class", ...runs.map(named), "mean", "deviation"];
  section("Scores by class", table("Scores of each class in the runs", header, cells, (column) => column > 0));
}

/** Scores, and settings that differ, of several runs side by side. */
function showComparison(runs, comparison) {
  const rows = comparison.scores.map((row) =>
    [words(row.key)[0], ...row.values.map(shown), shown(row.mean), shown(row.deviation), words(row.key)[1]]);
  const header = ["score", ...runs.map(named), "mean", "deviation", "meaning"];
  const isNumber = (column) => column > 0 && column < header.length - 1;
  section("Scores", rows.length > 0
    ? table("Scores of the runs", header, rows, isNumber)
    : element("p", { class: "soft" }, "None of these runs was evaluated."));
  showComparedClasses(runs, comparison.classes);
  const different = comparison.settings.map((row) => [row.key, ...row.values.map(setting)]);
  section("Settings that differ", different.length > 0
    ? table("Settings that differ", ["setting", ...runs.map(named)], different)
    : element("p", { class: "soft" }, "None: these runs have the same settings."));
}

function facts(run) {
  return element("dl", {}, ...run.facts.flatMap(([what, text]) =>
    [element("dt", {}, what), element("dd", {}, text)]));
}

function showSettings(run) {
  if (!run.settings) return;
  const rows = Object.entries(run.settings).map(([key, value]) => [key, setting(value)]);
  section("All settings", element("details", {},
    element("summary", {}, `${rows.length} settings, as config.json has them`),
    table("All settings", ["setting", "value"], rows)));
}

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const head = document.getElementById("head");
  head.append(element("h1", {}, data.title), element("p", { class: "soft" }, `${data.program}, ${data.written}`));
  const [run] = data.runs;
  if (data.comparison) {
    showComparison(data.runs, data.comparison);
    showComparedCurves(data.runs);
    section("Runs", ...data.runs.flatMap((one) => [element("h3", {}, named(one)), facts(one)]));
    return;
  }
  head.append(facts(run));
  showScores(run);
  showCurves(run);
  showViewers(data.viewers);
  showSettings(run);
}
