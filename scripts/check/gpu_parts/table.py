"""The results of all finished parts as one Markdown table."""

import json
import statistics

from gpu_parts.runner import limited
from gpu_parts.training import SCORES

PUBLISHED = "| published, 1 to 8 GPUs | 0.8908 to 0.8942 | | | about 600 (A100) |"
# The mean of the five folds that this project aims at: the best of the published ones.
PUBLISHED_DICE = 0.8942


def read_results(out, names):
    """The results of parts by name. One that cannot be read is shown as an error."""
    results = {}
    for name in names:
        path = out / f"{name}.json"
        if path.exists():
            results[name] = read_result(path)
    return results


def read_result(path):
    try:
        result = json.loads(path.read_text())
        return result if isinstance(result, dict) else dict(error="not a result", passed=False)
    except (OSError, ValueError) as error:
        return dict(error=f"cannot be read: {error}", passed=False)


def limit_line(row):
    verdict = "ok" if row["passed"] else "NOT PASSED"
    value = "not finite" if row["value"] is None else f"{row['value']:.2g}"
    return f"{verdict:10}  {row['name']}: {value}, at most {row['limit']:.2g}"


def limit_lines(name, result):
    lines = [limit_line(row) for row in result.get("rows", [])]
    if "error" in result:
        lines.append(f"NOT PASSED  {name}: {result['error']}")
    if "not_run" in result:
        lines.append(f"not run     {name}: {result['not_run']}")
    return lines


def score_cells(scores):
    return [f"{scores[name]:.4f}" if name in scores else "" for name in SCORES]


def training_lines(results):
    lines = ["", f"| run | {' | '.join(SCORES)} | seconds |", "|---" * (len(SCORES) + 2) + "|"]
    for result in results:
        cells = " | ".join(score_cells(result["scores"]))
        lines.append(f"| {result['run']} | {cells} | {result['seconds']:.0f} |")
    folds = [result for result in results if "fold" in result and result["precision"] == "amp"]
    if len(folds) > 1:
        means = {}
        for name in SCORES:
            values = [result["scores"][name] for result in folds if name in result["scores"]]
            if values:
                means[name] = statistics.mean(values)
        seconds = statistics.mean(result["seconds"] for result in folds)
        lines.append(f"| mean of {len(folds)}, amp | {' | '.join(score_cells(means))} | {seconds:.0f} |")
    lines.append(PUBLISHED)
    if len(folds) == 5 and all(result["comparable"] for result in folds):
        missing = limited("mean soft Dice of five folds, below the published", PUBLISHED_DICE - means[SCORES[0]], 0.0)
        lines += ["", limit_line(missing)]
    return lines


def profile_lines(result):
    lines = ["", f"{result['work']}, batch {result['batch_size']}: {result['said']}"]
    lines += ["", "| kernel | calls | ms | % |", "|---|---|---|---|"]
    for row in result["profile"][:12]:
        cells = f"{row['calls_per_step']:.1f} | {row['ms_per_step']:.3f} | {row['percent']:.1f}"
        lines.append(f"| `{row['name'][:100]}` | {cells} |")
    return lines


def kernel_lines(result):
    cells = [f"{row['name']} {1e3 * row['seconds']:.2f}" for row in result["kernels"]]
    run = f"{result['work']}, batch {result['batch_size']}"
    return ["", f"{run}, ms a step by UNET_CUDA_KERNELS: {', '.join(cells)}"]


def speed_lines(result):
    head = [f"{result['work']}, batch {result['batch_size']}", "ms a step (least to most)", "img/s", "GiB"]
    head += ["TFLOP/s", "of products", "of copying", "unet is"]
    lines = [f"{name} failed: {error.splitlines()[0]}" for name, error in result["failed"].items()]
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    best = min(row["seconds"] for row in result["contenders"] if row["group"] == "unet")
    for row in result["contenders"]:
        least, most = (1e3 * seconds for seconds in row["spread"])
        cells = [row["name"], f"{1e3 * row['seconds']:.2f} ({least:.2f} to {most:.2f})"]
        cells += [f"{row['images_per_second']:.0f}", f"{row['peak_bytes'] / 2**30:.2f}"]
        for name, unit in (("tflops", ""), ("matmul_share", " %"), ("copy_share", " %")):
            cells.append(f"{row[name]:.0f}{unit}" if name in row else "")
        cells.append("" if row["group"] == "unet" else f"{row['seconds'] / best:.2f} times as fast")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def try_lines(name, make, *arguments):
    """The lines of a part; one that cannot be shown costs no other its place in the table."""
    try:
        return make(*arguments)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return [f"NOT PASSED  {name}: cannot be shown: {type(error).__name__}: {error}"]


def make_table(out, names, left_out=()):
    """The table of the parts `names`. `left_out` are those for which there is no time."""
    results = read_results(out, names)
    lines = []
    for name, result in results.items():
        lines += try_lines(name, limit_lines, name, result)
    trainings = [result for result in results.values() if "scores" in result]
    if trainings:
        lines += try_lines("trainings", training_lines, trainings)
    for kind, make in (("profile", profile_lines), ("kernels", kernel_lines)):
        for name, result in results.items():
            if kind in result:
                lines += try_lines(name, make, result)
    for name, result in results.items():
        if "speed" in result:
            lines += try_lines(name, speed_lines, result["speed"])
    missing = [name for name in names if name not in results and name not in left_out]
    if missing:
        lines += ["", f"not run yet: {', '.join(missing)}"]
    if left_out:
        lines += ["", f"left out, as the time does not suffice: {', '.join(left_out)}"]
    return "\n".join(lines)
