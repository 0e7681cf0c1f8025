"""Parts that show whether the program computes what it should on this machine."""

import json
import os
import re
import shutil

from commands import CommandError, flags, logged_values
from gpu_parts.runner import NotHereError, limited, of_rows, weight_difference


def check(runner):
    """`unet check`: the device against float64, loss scaling, replayed steps, augmented samples."""
    try:
        text, seconds = runner.unet("check", "check", json=True)
    except CommandError:
        # It ends with 1 where a row has not passed, and its report tells which.
        text, seconds = (runner.options.out / "logs" / "check.txt").read_text(), 0
        if "{" not in text:
            raise
    report, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    # JSON has null for a value that is not finite.
    result = of_rows([limited(row["name"], row["value"], row["limit"]) for row in report["rows"]], seconds=seconds)
    return {**result, "passed": result["passed"] and report["passed"] is True}


def tests(kernels, runner):
    """The tests of the program that need a GPU, with UNET_CUDA_KERNELS."""
    options = runner.options
    if options.device != "cuda":
        raise NotHereError("these tests need a GPU")
    if not options.tests.is_file():
        raise NotHereError(f"no binary of tests '{options.tests}' (scripts/check/gpu_pack.sh makes one)")
    command = [options.tests, "on_a_gpu", "--ignored", "--nocapture", "--test-threads", "1"]
    code, text, seconds = runner.command(f"tests-{kernels}", command, {**os.environ, "UNET_CUDA_KERNELS": kernels})
    counts = re.search(r"test result: .* (\d+) passed; (\d+) failed", text)
    if not counts:
        raise CommandError(f"exit code {code}, and no test result: {text.splitlines()[-1]}")
    passed, failed = map(int, counts.groups())
    name = f"tests on a GPU with UNET_CUDA_KERNELS={kernels}"
    rows = [limited(f"{name}: failed of {passed + failed}", failed, 0)]
    rows.append(limited(f"{name}: exit code", abs(code), 0))
    if passed + failed == 0:
        rows.append(limited(f"{name}: none ran", 1, 0))
    return of_rows(rows, seconds=seconds)


def sanitizer(runner):
    """Two training steps of a small network under compute-sanitizer: accesses out of bounds."""
    tool = shutil.which("compute-sanitizer")
    if runner.options.device != "cuda" or not tool:
        raise NotHereError("compute-sanitizer is not on the PATH, or there is no GPU")
    run = dict(data_dir=runner.options.data, model_dir=runner.folder("sanitizer", empty=True), device="cuda")
    steps = dict(max_steps=2, amp=True, augment=True, deterministic=True, base_filters=16)
    code, text, seconds = runner.command("sanitizer", [tool, runner.options.binary, *flags(**run, **steps)])
    found = re.search(r"ERROR SUMMARY: (\d+) error", text)
    if not found:
        raise NotHereError(f"compute-sanitizer has no summary: {text.splitlines()[-1]}")
    rows = [limited("errors that compute-sanitizer finds in two steps", int(found.group(1)), 0)]
    return of_rows([*rows, limited("exit code under compute-sanitizer", abs(code), 0)], seconds=seconds)


def resume(runner):
    """A run that is resumed half-way ends with the weights of an unbroken one."""
    steps, rows = runner.options.short_steps, []
    half = steps // 2
    for precision, amp in (("float32", False), ("mixed precision", True)):
        whole = runner.train("whole", amp=amp, overwrite=True)
        broken = runner.folder("broken", empty=True)
        runner.train("first-half", amp=amp, max_steps=half, folder=broken)
        runner.train("second-half", amp=amp, resume_training=True, folder=broken)
        name = f"weights after {steps} steps in {precision}, resumed after {half}"
        rows.append(weight_difference(name, whole, broken, 0.0))
    return of_rows(rows)


def nccl(runner):
    """One process with the distributed engine computes the same as one without it, and leaves it in order."""
    alone = runner.train("alone", overwrite=True)
    # A lost process must not outlast this call.
    group = runner.train("group", overwrite=True, nproc_per_node=1, dist_timeout=60)
    name = f"weights after {runner.options.short_steps} steps, one process with and without its process group"
    text = (runner.options.out / "logs" / "group.txt").read_text()
    warnings = sum("destroy_process_group" in line for line in text.splitlines())
    rows = [weight_difference(name, alone, group, 1e-6)]
    return of_rows([*rows, limited("warnings of a process group that was not ended", warnings, 0)])


def start(runner):
    """Seconds from the start of the process, its loading included, to the end of the first training step."""
    rows = []
    for name, amp, xla in (
        ("float32", False, False),
        ("mixed precision", True, False),
        ("mixed precision with --xla", True, True),
    ):
        log = runner.folder("start")
        run = dict(data_dir=runner.options.data, model_dir=runner.folder("none", empty=True), log_dir=log)
        steps = dict(batch_size=runner.options.batch_size, benchmark=True, warmup_steps=1, max_steps=2)
        runner.unet("start", **run, **steps, amp=amp, xla=xla)
        seconds = logged_values(log)["first_step_after_train"]
        rows.append(limited(f"seconds from start to first step in {name}", seconds, 10.0))
    return of_rows(rows)
