"""Plots of the rows as SVG: scores by experiment, and learning curves."""

import math
from html import escape
from statistics import fmean

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
INK, GRID = "#222222", "#d8d8d8"
WIDTH = 900


class Axis:
    """Maps values to pixels; `scale` is "linear" or "log"."""

    def __init__(self, low, high, start, end, scale="linear"):
        self.function = math.log10 if scale == "log" else float
        self.low, self.high, self.scale = low, high, scale
        self.start, self.end = start, end

    def __call__(self, value):
        low, high = self.function(self.low), self.function(self.high)
        return self.start + (self.end - self.start) * (self.function(value) - low) / (high - low)

    def ticks(self):
        """Round values: 1, 2 or 5 times a power of ten."""
        if self.scale == "log":
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 6
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
            first = math.ceil(self.low / step)
            found = [number * step for number in range(first, math.floor(self.high / step) + 1)]
        # Rounding may put a tick a little beyond the ends.
        room = 1e-9 * abs(self.high)
        return [value for value in found if self.low - room <= value <= self.high + room]


class Drawing:
    def __init__(self, height, title):
        self.height, self.parts = height, []
        self.text(16, 26, title, size=17)

    def text(self, x, y, words, size=13, anchor="start", colour=INK):
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
        self.parts.append(f"<text {place}>{escape(words)}</text>")

    def line(self, points, colour=INK, width=1.0, extra=""):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f'fill="none" stroke="{colour}" stroke-width="{width}" {extra}'
        self.parts.append(f'<polyline points="{places}" {style}/>')

    def dot(self, x, y, colour, radius=4.0):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity="0.75"/>')

    def svg(self):
        size = f'width="{WIDTH}" height="{self.height}" viewBox="0 0 {WIDTH} {self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, Arial, sans-serif">'
        # A white ground makes the ink readable on dark pages too.
        return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *self.parts, "</svg>"]) + "\n"


def short(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def scores_by_experiment(experiments, rows, base):
    """Error 1 - V_Rand of each experiment: a dot for each seed, a bar at their mean. `None` without rows."""
    shown = [(each.title, found) for each in experiments if (found := errors_of(rows[each.name]))]
    if not shown:
        return None
    errors = [error for _, found in shown for error in found]
    top, row_height, left = 70, 24, 330
    bottom = top + row_height * len(shown)
    drawing = Drawing(bottom + 60, "Error 1 - V_Rand on the held-out slices: less is better")
    axis = Axis(min(errors) / 1.15, max(errors) * 1.15, left, WIDTH - 40, "log")
    for value in axis.ticks():
        drawing.line([(axis(value), top - 10), (axis(value), bottom)], GRID)
        drawing.text(axis(value), bottom + 20, short(value), anchor="middle")
    drawing.text((left + WIDTH - 40) / 2, bottom + 44, "1 - V_Rand (logarithmic)", anchor="middle")
    if rows[base.name]:
        place = axis(fmean(errors_of(rows[base.name])))
        drawing.line([(place, top - 10), (place, bottom)], COLOURS[1], 1.5, 'stroke-dasharray="5 4"')
        drawing.text(place, top - 16, base.title, anchor="middle", colour=COLOURS[1])
    for number, (title, found) in enumerate(shown):
        y = top + row_height * (number + 0.5)
        drawing.text(left - 12, y + 4, title, anchor="end")
        place = axis(fmean(found))
        drawing.line([(place, y - 8), (place, y + 8)], INK, 2)
        for error in found:
            drawing.dot(axis(error), y, COLOURS[0])
    return drawing.svg()


def errors_of(rows):
    """1 - V_Rand of each row, above 0 for the logarithm."""
    return [max(1 - row["scores"]["v_rand_thin"], 1e-4) for row in rows]


def has_a_line(training):
    """Whether it was validated twice or more on the way: a line takes two points."""
    return len(training.get("curve", {}).get("step", [])) > 1


def learning_curves(experiments, rows):
    """Validation scores by images seen, a panel for each score and a line for each seed. `None` without curves.

    Experiments that score another one's training have no line, as it would be the same one.
    """
    curves = {}
    for each in experiments:
        found = [] if each.run_of else [row["trainings"][0] for row in rows[each.name]]
        if drawn := list(filter(has_a_line, found)):
            curves[each.title] = drawn
    if not curves:
        return None
    panels = [("v_rand_thin", "V_Rand"), ("eval_dice_score", "soft Dice")]
    height, top, left, gap = 300, 60, 70, 80
    width = (WIDTH - left - 30 - gap) / 2
    drawing = Drawing(top + height + 60 + 22 * len(curves), "Scores of the held-out slices while training goes on")
    lines = {
        (title, name): [points(training, name) for training in drawn if training["curve"].get(name)]
        for title, drawn in curves.items()
        for name, _ in panels
    }
    images = [x for drawn in lines.values() for line in drawn for x, _ in line]
    for number, (name, label) in enumerate(panels):
        begin = left + number * (width + gap)
        values = [y for (_, other), drawn in lines.items() if other == name for line in drawn for _, y in line]
        if not values:
            continue
        room = 0.05 * (max(values) - min(values)) + 1e-3
        across = Axis(min(images), max(max(images), min(images) * 1.01), begin, begin + width, "log")
        up = Axis(min(values) - room, max(values) + room, top + height, top)
        draw_frame(drawing, across, up, label)
        for index, title in enumerate(curves):
            for line in lines[title, name]:
                drawing.line([(across(x), up(y)) for x, y in line], COLOURS[index % len(COLOURS)], 2)
    for index, title in enumerate(curves):
        y, colour = top + height + 62 + 22 * index, COLOURS[index % len(COLOURS)]
        drawing.line([(left, y - 4), (left + 28, y - 4)], colour, 3)
        drawing.text(left + 38, y, title)
    return drawing.svg()


def points(training, name):
    """(images seen, score) of the validations on the way."""
    curve, images = training["curve"], training["images_seen"] / training["steps"]
    return [(step * images, value) for step, value in zip(curve["step"], curve[name], strict=True)]


def draw_frame(drawing, across, up, label):
    for value in across.ticks():
        drawing.line([(across(value), up.start), (across(value), up.end)], GRID)
        drawing.text(across(value), up.start + 18, short(value), size=11, anchor="middle")
    for value in up.ticks():
        drawing.line([(across.start, up(value)), (across.end, up(value))], GRID)
        drawing.text(across.start - 8, up(value) + 4, short(value), size=11, anchor="end")
    drawing.text((across.start + across.end) / 2, up.start + 38, "images seen (logarithmic)", anchor="middle")
    drawing.text(across.start, up.end - 8, label, size=14)
