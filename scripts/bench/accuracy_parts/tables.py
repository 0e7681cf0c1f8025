"""The tables of docs/accuracy.md, made from rows: mean and range over the seeds.

A table replaces what is between `<!-- table: NAME -->` and `<!-- end -->`. NAME is that of a group, or `targets`, or
`headline`. Likewise a plot is shown between `<!-- picture: NAME: what it shows -->` and `<!-- end -->`.
"""

import re
from statistics import fmean

NOT_RUN = "not run yet"
NOTHING_YET = "Not run yet."
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PICTURE = re.compile(r"(<!-- picture: (\w+): (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text, rows, experiments, groups, targets):
    """`text` with its tables made anew; `rows` has those of each experiment, by its name."""

    def table(place):
        name = place[2]
        if name == "targets":
            body = target_table(targets, rows)
        elif name == "headline":
            body = headline(targets, rows)
        elif name in groups:
            body = group_table([each for each in experiments if each.group == name], rows)
        else:
            raise ValueError(f"there is no group '{name}' for the table of that name")
        return f"{place[1]}{body}\n{place[3]}"

    return PLACE.sub(table, text)


def show_pictures(text, folder, made):
    """`text` with the plots that are made; `folder` is that of the plots, seen from the page."""

    def picture(place):
        shown = f"![{place[3]}]({folder}/{place[2]}.svg)" if place[2] in made else NOTHING_YET
        return f"{place[1]}{shown}\n{place[4]}"

    return PICTURE.sub(picture, text)


def score(rows, name):
    """The scores of a name, of each row that has one."""
    return [row["scores"][name] for row in rows if name in row["scores"]]


def spread(values, digits=4):
    """Mean and range; a single value alone."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def training(row, key, total=False):
    """A figure of the trainings of a row: of the first, or of all together."""
    figures = [each[key] for each in row["trainings"]]
    return sum(figures) if total else figures[0]


def against(rows, base):
    """Difference of V_Rand from that of `base`, mean over the seeds that both have: a seed draws the same windows."""
    of_seed = {seed: value for row in base for seed in row["seeds"] for value in score([row], "v_rand_thin")}
    differences = [
        value - fmean(of_seed[seed] for seed in row["seeds"])
        for row in rows
        for value in score([row], "v_rand_thin")
        if set(row["seeds"]) <= of_seed.keys()
    ]
    return f"{fmean(differences):+.4f}" if differences else "-"


def group_table(experiments, rows):
    if not any(rows[each.name] for each in experiments):
        return NOTHING_YET
    base = rows[base_of(experiments).name]
    lines = [
        "| | V_Rand | against the base | V_Info | Dice | soft Dice | images seen | s per step | minutes | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        own = rows[experiment.name]
        if not own:
            lines.append(f"| {experiment.title} | {NOT_RUN} |" + " |" * 8)
            continue
        cells = [
            experiment.title,
            spread(score(own, "v_rand_thin")),
            against(own, base),
            *(spread(score(own, name)) for name in ("v_info_thin", "dice", "eval_dice_score")),
            f"{fmean([training(row, 'images_seen', total=True) for row in own]):,.0f}",
            f"{fmean([training(row, 'seconds_per_step') for row in own]):.3f}",
            f"{fmean([training(row, 'seconds', total=True) for row in own]) / 60:.1f}",
            seeds(own, experiment),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    planners = [planner(row["trainings"][0]) for each in experiments for row in rows[each.name]]
    return "\n".join(lines + [f"\n{words}" for words in dict.fromkeys(filter(None, planners))])


def planner(training):
    """What nnU-Net has chosen, if the training is one of it."""
    if "planner" not in training:
        return None
    found = training["planner"]
    patch, features = ("x".join(map(str, found["patch_size"])), ", ".join(map(str, found["features"])))
    return (
        f"{training['version']} chose: patch {patch}, batch {found['batch_size']}, {found['network']} of\n"
        f"{found['stages']} stages with {features} features, {', '.join(found['normalization'])}."
    )


def base_of(experiments):
    """What a group's rows are compared with: the one that is marked so, or the first."""
    return next((each for each in experiments if each.base), experiments[0])


def seeds(rows, experiment):
    found = sorted(seed for row in rows for seed in row["seeds"])
    words = ", ".join(map(str, found))
    missing = len(experiment.jobs()) - len(rows)
    return words + (f" ({missing} {NOT_RUN})" if missing else "")


def measure(target, rows):
    """What was measured, as a number and in words, and whether the target is met: (number, met, words). `None` where
    rows are missing.
    """
    own = score(rows[target["experiment"]], target["score"])
    other = rows[target.get("error_ratio_to") or target.get("ahead_of") or target["experiment"]]
    others = score(other, target["score"])
    if not own or not others:
        return None
    value = fmean(own)
    if "error_ratio_to" in target:
        value = (1 - value) / (1 - fmean(others))
    if "ahead_of" in target:
        return value, value > fmean(others), f"{value:.4f} against {fmean(others):.4f}"
    is_met = value >= target.get("at_least", value) and value <= target.get("at_most", value)
    return value, is_met, f"{value:.4f}"


def target_table(targets, rows):
    lines = ["| target | measured | met |", "|---|---|---|"]
    for target in targets:
        found = measure(target, rows)
        measured, met = (found[2], "yes" if found[1] else "**no**") if found else (NOT_RUN, "-")
        lines.append(f"| {target['title']} | {measured} | {met} |")
    return "\n".join(lines)


def headline(targets, rows):
    """The experiment that is to be ahead of another, beside it, each with the minutes that it was trained for."""
    target = next((each for each in targets if "ahead_of" in each), None)
    if target is None or measure(target, rows) is None:
        return NOTHING_YET
    machine = rows[target["experiment"]][0]["machine"]
    cpu = ", ".join([machine["cpu"], machine["cpu_numbers"], *machine["cpu_extensions"]])
    lines = [f"On {machine['threads']} threads of a CPU ({cpu}):\n"]
    for found in (rows[target["experiment"]], rows[target["ahead_of"]]):
        minutes = fmean([training(row, "seconds") for row in found]) / 60
        v_rand, v_info = (spread(score(found, name)) for name in ("v_rand_thin", "v_info_thin"))
        lines.append(
            f"- {found[0]['title']}, after {minutes:.0f} minutes of training: V_Rand **{v_rand}**, V_Info **{v_info}**"
        )
    return "\n".join(lines)
