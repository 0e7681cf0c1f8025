// The viewer of slices: image, probability, mask and label over each other, with zoom and keys.

const LAYERS = [
  { key: "image", name: "image", opacity: 100, isOn: true },
  { key: "probability", name: "probability", opacity: 80, isOn: false },
  { key: "mask", name: "mask", opacity: 45, isOn: true },
  { key: "label", name: "label", opacity: 45, isOn: false },
];
const MOST_ZOOM = 32;

class Viewer {
  constructor(sets) {
    this.sets = sets;
    this.zoom = 1;
    this.offset = [0, 0];
    this.layers = LAYERS.map((layer) => ({ ...layer }));
    this.box = element("div", { class: "viewer" }, this.stagePart(), this.controls());
    this.choose(0);
    document.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.place()).observe(this.stage);
  }

  stagePart() {
    this.layers.forEach((layer) => {
      layer.picture = element("img", { alt: "", draggable: "false", "data-layer": layer.key });
    });
    this.sheet = element("div", { class: "layers" }, ...this.layers.map((layer) => layer.picture));
    this.stage = element("div", { class: "stage", tabindex: "0", role: "img" }, this.sheet);
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.drag(event));
    this.stage.addEventListener("dblclick", () => this.reset());
    return this.stage;
  }

  controls() {
    const button = (text, label, act) => {
      const made = element("button", { type: "button", "aria-label": label }, text);
      made.addEventListener("click", act);
      return made;
    };
    this.slider = element("input", { type: "range", min: "0", value: "0", id: "slice" });
    this.slider.addEventListener("input", () => this.turn(Number(this.slider.value)));
    this.counter = element("label", { for: "slice" });
    this.caption = element("p", { class: "caption", "aria-live": "polite" });
    this.note = element("p", { class: "soft" });
    this.order = element("select", { id: "order" },
      element("option", { value: "worst" }, "worst first, by Dice"), element("option", { value: "given" }, "in order"));
    this.order.addEventListener("change", () => this.sort());
    this.orderRow = element("div", { class: "row" }, element("label", { for: "order" }, "Order"), this.order);
    this.title = element("p", { class: "soft" });
    this.legend = element("div", { class: "row" });
    this.zoomText = element("output", {});
    const keys = [["←", "→"], "slices", ["1", "2", "3", "4"], "layers", ["+", "−", "0"], "zoom"];
    const help = keys.flatMap((part) =>
      (Array.isArray(part) ? part.flatMap((key) => [element("kbd", {}, key), " "]) : [part, element("br")]));
    return element("div", {},
      this.caption, this.note, this.counter,
      element("div", { class: "slices" }, button("‹", "previous slice", () => this.turn(this.at - 1)), this.slider,
        button("›", "next slice", () => this.turn(this.at + 1))),
      this.orderRow,
      element("fieldset", {}, element("legend", {}, "Layers and opacity"), ...this.layers.map((one) => this.row(one))),
      this.legend,
      element("div", { class: "row" }, button("+", "zoom in", () => this.magnify(1.5)),
        button("−", "zoom out", () => this.magnify(1 / 1.5)), button("whole slice", "whole slice", () => this.reset()),
        this.zoomText),
      element("p", { class: "soft" }, ...help, "Drag to move; the wheel zooms once the slice was clicked."),
      this.title);
  }

  /** A layer's checkbox and opacity. */
  row(layer) {
    const label = `${layer.name} opacity`;
    layer.box = element("input", { type: "checkbox", checked: layer.isOn, id: `layer-${layer.key}` });
    layer.range = element("input", { type: "range", min: "0", max: "100", value: layer.opacity, "aria-label": label });
    layer.output = element("output", {});
    layer.text = element("label", { for: `layer-${layer.key}` }, layer.name);
    layer.box.addEventListener("change", () => this.paint());
    layer.range.addEventListener("input", () => {
      layer.box.checked = true;
      this.paint();
    });
    layer.row = element("div", { class: "layer" }, layer.box, layer.text, layer.range, layer.output);
    return layer.row;
  }

  /** Shows another set: evaluated or predicted slices. */
  choose(index) {
    this.set = this.sets[index];
    const hasScores = this.set.slices.some((slice) => slice.dice !== null);
    this.orderRow.hidden = !hasScores;
    this.order.value = hasScores ? "worst" : "given";
    this.title.textContent = this.set.title;
    this.layers.forEach((layer) => {
      layer.row.hidden = !this.set.slices.some((slice) => slice[layer.key]);
    });
    this.layers[1].text.textContent = this.set.probability;
    this.legend.replaceChildren(...this.set.classes.flatMap(({ name, mask, label }) => this.swatches(name, mask, label)));
    this.slider.max = String(this.set.slices.length - 1);
    this.sort();
  }

  /** Colours of a class; mask and label have one of their own where there is a single class to show. */
  swatches(name, mask, label) {
    const swatch = (colour, text) => {
      const square = element("span", { class: "swatch" });
      square.style.background = colour;
      return element("span", {}, square, text);
    };
    if (mask && label && mask !== label) {
      const hasLabels = this.set.slices.some((slice) => slice.label);
      return [swatch(mask, `${name}, mask`), ...(hasLabels ? [swatch(label, `${name}, label`)] : [])];
    }
    return [swatch(mask || label || "transparent", name)];
  }

  sort() {
    this.slices = [...this.set.slices];
    // A slice without a score, whose labels are all ignored, goes last.
    const dice = (slice) => (slice.dice === null ? Infinity : slice.dice);
    if (this.order.value === "worst") this.slices.sort((a, b) => (dice(a) === dice(b) ? 0 : dice(a) - dice(b)));
    this.turn(0);
  }

  /** Shows the slice at a place of the order. */
  turn(place) {
    this.at = Math.min(Math.max(place, 0), this.slices.length - 1);
    const slice = this.slices[this.at];
    const score = slice.dice === null ? "" : `, Dice ${slice.dice.toFixed(4)}`;
    this.slider.value = String(this.at);
    this.counter.textContent = `Slice ${this.at + 1} of ${this.slices.length}`;
    this.slider.setAttribute("aria-valuetext", `${this.at + 1}: ${slice.caption}`);
    this.caption.textContent = slice.caption + score;
    const [height, width] = slice.size;
    const [high, wide] = slice.shown;
    const isReduced = high < height || wide < width;
    const note = isReduced ? `; shown here as a preview of ${wide} x ${high}` : "";
    this.note.textContent = `${width} x ${height} pixels${note}`;
    this.stage.setAttribute("aria-label", `${slice.caption}${score}, with its layers`);
    for (const layer of this.layers) {
      if (slice[layer.key]) layer.picture.src = slice[layer.key];
      else layer.picture.removeAttribute("src");
    }
    this.paint();
    this.place();
  }

  /** Opacities of the layers. */
  paint() {
    const slice = this.slices[this.at];
    for (const layer of this.layers) {
      const opacity = layer.box.checked && slice[layer.key] ? Number(layer.range.value) / 100 : 0;
      layer.picture.style.opacity = String(opacity);
      layer.output.textContent = `${layer.range.value} %`;
    }
  }

  magnify(factor, middle) {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const [x, y] = middle || [width / 2, height / 2];
    const zoom = Math.min(Math.max(this.zoom * factor, 1), MOST_ZOOM);
    const grown = zoom / this.zoom;
    this.offset = [x - (x - this.offset[0]) * grown, y - (y - this.offset[1]) * grown];
    this.zoom = zoom;
    this.place();
  }

  reset() {
    [this.zoom, this.offset] = [1, [0, 0]];
    this.place();
  }

  /** Puts the layers where zoom and offset say, within the stage. */
  place() {
    const sides = [this.stage.clientWidth, this.stage.clientHeight];
    this.offset = this.offset.map((offset, side) => Math.min(0, Math.max(offset, sides[side] * (1 - this.zoom))));
    const [x, y] = this.offset;
    this.sheet.style.transform = `translate(${x}px, ${y}px) scale(${this.zoom})`;
    const [high, wide] = this.slices[this.at].shown;
    const scale = this.zoom * Math.min(sides[0] / wide, sides[1] / high);
    this.sheet.classList.toggle("pixels", scale >= 2);
    this.stage.classList.toggle("zoomed", this.zoom > 1);
    this.zoomText.textContent = `${Math.round(100 * this.zoom)} %`;
  }

  wheel(event) {
    // Only where the slice was clicked or tabbed to: else the page could not be scrolled past it.
    if (document.activeElement !== this.stage) return;
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    this.magnify(Math.exp(-event.deltaY / 300), [event.clientX - box.left, event.clientY - box.top]);
  }

  drag(event) {
    if (event.button !== 0) return;
    this.stage.focus({ preventScroll: true });
    const start = [event.clientX - this.offset[0], event.clientY - this.offset[1]];
    const move = (next) => {
      this.offset = [next.clientX - start[0], next.clientY - start[1]];
      this.place();
    };
    const end = () => {
      this.stage.classList.remove("dragged");
      this.stage.removeEventListener("pointermove", move);
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.classList.add("dragged");
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end, { once: true });
    this.stage.addEventListener("pointercancel", end, { once: true });
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const isArrow = event.key === "ArrowLeft" || event.key === "ArrowRight";
    const focused = event.target instanceof Element ? event.target : null;
    // Sliders, lists and tables that scroll have arrow keys of their own.
    const hasArrows = focused && focused.matches("input[type=range], select, .scroll");
    const layer = this.layers[Number(event.key) - 1];
    if (isArrow && !hasArrows) this.turn(this.at + (event.key === "ArrowRight" ? 1 : -1));
    else if (layer && !layer.row.hidden) {
      layer.box.checked = !layer.box.checked;
      this.paint();
    } else if (event.key === "+" || event.key === "=") this.magnify(1.5);
    else if (event.key === "-") this.magnify(1 / 1.5);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }
}

/** Evaluated slices, then predicted ones; a button for each kind where there are both. */
function showViewers(viewers) {
  const kinds = [["evaluation", "evaluated slices"], ["prediction", "predicted slices"]];
  const present = kinds.filter(([key]) => viewers[key] && viewers[key].slices.length > 0);
  if (present.length === 0) return;
  const part = section("Slices");
  const viewer = new Viewer(present.map(([key]) => viewers[key]));
  const buttons = present.map(([key, name], index) => {
    const button = element("button", { type: "button", "aria-pressed": String(index === 0), "data-set": key }, name);
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      viewer.choose(index);
    });
    return button;
  });
  if (present.length > 1) part.append(element("div", { class: "row" }, ...buttons));
  part.append(viewer.box);
}
