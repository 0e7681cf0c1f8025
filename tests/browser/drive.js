// Works with a report as a person would, by controls and keys, and adds what the page shows as an element "result".
"use strict";

const one = (selector) => document.querySelector(selector);
const press = (key, place = document) => place.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const slide = (input, value) => {
  input.value = value;
  input.dispatchEvent(new Event("input"));
};
const slice = () => `${one("label[for=slice]").textContent}: ${one(".caption").textContent}`;
const opacities = () => [...document.querySelectorAll(".layers img")].map((image) => image.style.opacity);
const shift = () => one(".layers").style.transform;
const violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));

function drive() {
  const found = { slices: [slice()], opacities: [opacities()], shifts: [shift()] };
  press("ArrowRight");
  found.slices.push(slice());
  press("ArrowLeft");
  found.slices.push(slice());
  slide(one("#slice"), one("#slice").max);
  found.slices.push(slice());
  one("#order").value = "given";
  one("#order").dispatchEvent(new Event("change"));
  found.slices.push(slice());
  for (const key of ["1", "2", "3", "4"]) {
    press(key);
    found.opacities.push(opacities());
  }
  slide(one("input[aria-label='mask opacity']"), 70);
  found.opacities.push(opacities());
  for (const key of ["+", "-", "+", "0"]) {
    press(key);
    found.shifts.push(shift());
  }
  const chart = one(".chart svg");
  press("ArrowRight", chart);
  found.tip = one(".tip").textContent;
  found.after_chart = slice();
  const predicted = one("[data-set=prediction]");
  if (predicted) {
    predicted.click();
    found.predicted = slice();
    found.label_is_hidden = one("#layer-label").parentElement.hidden;
  }
  found.width = [window.innerWidth, document.documentElement.scrollWidth];
  found.unnamed = [...document.querySelectorAll("input, select, button")]
    .filter((control) => !control.labels?.length && !control.textContent.trim() && !control.ariaLabel).length;
  return found;
}

function finish(found) {
  found.pictures = [...document.querySelectorAll(".layers img[src]")].map((image) => image.naturalWidth);
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.violations = violations;
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
}

// Curves are drawn with the first frame, which a busy machine may have late.
function whenDrawn(work, tries) {
  if (one(".chart svg").childElementCount > 0 || tries === 0) work();
  else setTimeout(() => whenDrawn(work, tries - 1), 100);
}

// Pictures are decoded later still.
window.addEventListener("load", () => {
  setTimeout(() => whenDrawn(() => {
    const found = drive();
    setTimeout(() => finish(found), 300);
  }, 60), 300);
});
