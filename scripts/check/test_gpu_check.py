"""Tests of gpu_check.py and gpu_pack.sh on made-up programs; scripts/check/lint.sh runs them.

They need scripts/bench on PYTHONPATH.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import unittest
from pathlib import Path

import gpu_check
from gpu_parts import archive, plan, table
from gpu_parts.runner import limited, of_rows

HERE = Path(__file__).resolve().parent
# Stands for unet: `check --json` prints here/report.json; a training writes its flags, scores and weights, fails for
# folds in here/fails, and for those in here/hangs waits until it is killed.
FAKE_UNET = """#!{python}
import json, pathlib, signal, struct, sys, time
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with open(here / "calls.txt", "a") as file:
    file.write(" ".join(words) + "\\n")
def value(flag, missing=None):
    return words[words.index(flag) + 1] if flag in words else missing
def has(file, fold):
    return (here / file).exists() and fold in (here / file).read_text().split()
if words[0] == "check":
    report = (here / "report.json").read_text()
    print(report)
    sys.exit(0 if json.loads(report)["passed"] else "error: checks have not passed")
fold = value("--crossvalidation_idx", "")
if has("fails", fold):
    sys.exit("error: no luck with this fold")
if has("hangs", fold):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(300)
folder = pathlib.Path(value("--model_dir"))
folder.mkdir(parents=True, exist_ok=True)
(folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{{}}" + struct.pack("<2f", 1, 2))
(folder / "eval.json").write_text(json.dumps(dict(eval_dice_score=0.9, v_rand_thin=0.8)))
"""


def report(value, passed=True):
    rows = [dict(name="logits", value=1e-6, limit=1e-4), dict(name="gradients", value=value, limit=1e-3)]
    return json.dumps(dict(rows=rows, passed=passed))


class Scripts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name)
        self.out = self.here / "out"
        program = self.here / "unet"
        program.write_text(textwrap.dedent(FAKE_UNET.format(python=sys.executable)))
        program.chmod(0o755)
        (self.here / "report.json").write_text(report(1e-5))

    def call(self, *arguments, binary="./unet", patience=1.0, **run):
        """The exit code and output of gpu_check.py, started in the folder of the program."""
        start = f"import commands, gpu_check; commands.PATIENCE = {patience}; gpu_check.main()"
        paths = os.pathsep.join(str(path) for path in (HERE, HERE.parent / "bench"))
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", start, binary, ".", "out", "--device", "cpu", *arguments]
        done = subprocess.run(
            command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=300, check=False, **run
        )
        return done.returncode, done.stdout + done.stderr

    def calls(self):
        return (self.here / "calls.txt").read_text().splitlines()

    def test_a_program_in_the_current_folder_is_found_and_a_finished_part_is_not_run_again(self):
        code, text = self.call("--parts", "check")
        self.assertEqual(code, 0, text)
        self.assertIn("ok          gradients: 1e-05, at most 0.001", text)
        self.assertEqual(self.call("--parts", "check")[0], 0)
        self.assertEqual(len(self.calls()), 1)
        code, text = self.call("--parts", "check", binary="nothing")
        self.assertEqual(code, 2, text)

    def test_a_value_that_is_not_finite_does_not_pass_and_the_table_is_written_all_the_same(self):
        for value in (None, float("nan"), float("inf")):
            # Even if the program itself says that all is well.
            (self.here / "report.json").write_text(report(value))
            code, text = self.call("--parts", "check", "--again")
            self.assertEqual(code, 1, text)
            self.assertIn("NOT PASSED  gradients:", text)
            self.assertIn("NOT PASSED  gradients:", (self.out / "table.md").read_text())
            # The next call reads the same results.
            self.assertIn("NOT PASSED  gradients:", self.call("--parts", "check")[1])
        self.assertFalse(limited("x", None, 1.0)["passed"])
        self.assertFalse(of_rows([])["passed"])
        (self.here / "report.json").write_text(report(1e-5, passed=False))
        self.assertEqual(self.call("--parts", "check", "--again")[0], 1)

    def test_a_part_that_fails_costs_no_other(self):
        (self.here / "fails").write_text("0")
        (self.here / "report.json").write_text('{"rows": 3}')
        code, text = self.call("--parts", "check", "fold0-amp", "fold1-amp")
        self.assertEqual(code, 1, text)
        self.assertIn("NOT PASSED  check: TypeError", text)
        self.assertIn("NOT PASSED  fold0-amp: fold0-amp: exit code 1: error: no luck with this fold", text)
        self.assertIn("| fold 1, amp | 0.9000 | 0.8000 |", text)

    def test_a_damaged_result_costs_no_other_its_place(self):
        self.out.mkdir()
        (self.out / "check.json").write_text("{")
        (self.out / "start.json").write_text(json.dumps(dict(rows=[dict(name="x")], passed=True)))
        (self.out / "fold1-amp.json").write_text(json.dumps(dict(scores={}, passed=True)))
        limits = of_rows([limited("weights", 0.5, 1.0)])
        (self.out / "resume.json").write_text(json.dumps(limits))
        text = table.make_table(self.out, plan.PARTS)
        for line in ("check: cannot be read", "start: cannot be shown: KeyError", "trainings: cannot be shown"):
            self.assertIn(f"NOT PASSED  {line}", text)
        self.assertIn("ok          weights: 0.5, at most 1", text)

    def test_a_program_that_hangs_is_ended_and_the_call_keeps_its_time(self):
        (self.here / "hangs").write_text("0")
        code, text = self.call("--parts", "fold0-amp", "fold1-amp", "--minutes", "0.15", patience=0.3)
        self.assertEqual(code, 0, text)
        self.assertIn("fold0-amp: stopped with a checkpoint", text)
        self.assertIn("too little time left: fold0-amp, fold1-amp; call again", text)
        (self.here / "hangs").write_text("")
        self.assertIn("| fold 0, amp | 0.9000 |", self.call("--parts", "fold0-amp")[1])

    def test_a_budget_leaves_out_what_is_worth_least_and_says_so(self):
        seconds = [part.seconds for part in plan.PARTS.values()]
        minutes = (sum(seconds[:2]) + 5) / 60
        self.out.mkdir()
        text = self.call("--budget_minutes", str(minutes))[1]
        # The tests need a GPU, and take no time here.
        self.assertIn("not run     tests-own: these tests need a GPU", text)
        left_out = next(line for line in text.splitlines() if line.startswith("left out"))
        self.assertIn("native-amp", left_out)
        self.assertNotIn("check", left_out)
        # What earlier calls have taken counts.
        (self.out / "spent.txt").write_text(str(60 * minutes))
        text = self.call("--budget_minutes", str(minutes), "--again")[1]
        self.assertIn("left out, as the time does not suffice: check, tests-own, ", text)

    def test_blocks_are_parts_and_every_part_of_a_block_has_its_place_in_the_order_of_worth(self):
        names = [name for names in plan.BLOCKS.values() for name in names]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(set(names), set(plan.PARTS))
        options = gpu_check.parse_options([str(self.here / "unet"), ".", "out", "--budget_minutes", "15"])
        self.assertEqual(sorted(plan.chosen(options)), sorted(set(names)))
        for block in plan.BLOCKS.values():
            self.assertLess(sum(plan.PARTS[name].seconds for name in block), 900)

    def test_the_process_group_of_a_check_waits_a_minute_and_no_longer(self):
        code, text = self.call("--parts", "nccl")
        self.assertIn("--dist_timeout 60", self.calls()[1], text)
        self.assertEqual(code, 0 if "weights after" in text and "NOT PASSED" not in text else 1)

    def test_five_folds_at_full_size_are_held_to_the_published_dice(self):
        self.out.mkdir()
        for dice, verdict in ((0.8950, "ok"), (0.8930, "NOT PASSED")):
            for number in range(5):
                fold = dict(fold=number, precision="amp", run=f"fold {number}, amp", comparable=True, seconds=100)
                result = dict(fold, scores=dict(eval_dice_score=dice), passed=True)
                (self.out / f"fold{number}-amp.json").write_text(json.dumps(result))
            text = table.make_table(self.out, plan.PARTS)
            self.assertIn(f"{verdict:10}  mean soft Dice of five folds, below the published", text)

    def test_the_archive_has_results_and_leaves_out_what_is_large(self):
        self.call("--parts", "check", "fold0-amp")
        (self.out / "profiles/train_amp-8").mkdir(parents=True)
        (self.out / "profiles/train_amp-8/trace.json").write_bytes(b"x" * (archive.MOST_BYTES + 1))
        path, left_out = archive.write_archive(self.out)
        with tarfile.open(path) as content:
            names = content.getnames()
        self.assertLessEqual({"results/table.md", "results/check.json", "results/logs/fold0-amp.txt"}, set(names))
        self.assertEqual(left_out, ["profiles/train_amp-8/trace.json"])
        self.assertFalse([name for name in names if "runs" in name])

    def test_the_folder_that_travels_has_both_programs_and_its_size_is_bounded(self):
        release, data = self.here / "target/release", self.here / "data"
        (release / "deps").mkdir(parents=True)
        data.mkdir()
        for stack in ("train-volume", "train-labels", "test-volume"):
            (data / f"{stack}.tif").write_bytes(b"x" * 2000)
        # strip needs real programs.
        lists = 'int main(int n, char**) { if (n > 1) __builtin_puts("a::on_a_gpu_b: test"); }'
        for path, text in ((release / "unet", "int main() {}"), (release / "deps/unet-0a", lists)):
            source = self.here / "source.cpp"
            source.write_text(text)
            subprocess.run(["c++", "-o", path, source], check=True)
        os.link(release / "unet", release / "deps/unet-1b")

        def pack(folder, most):
            environment = {**os.environ, "CARGO_TARGET_DIR": str(self.here / "target"), "MOST_MIB": most}
            command = [HERE / "gpu_pack.sh", data, self.here / folder]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

        done = pack("folder", "64")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"folder: [0-9.]+ MiB")
        tests = subprocess.run([self.here / "folder/unet-tests", "--list"], capture_output=True, text=True, check=True)
        self.assertIn("on_a_gpu", tests.stdout)
        for path in ("unet", "data/test-volume.tif", "scripts/check/gpu_parts/plan.py", "scripts/bench/accuracy.toml"):
            self.assertTrue((self.here / "folder" / path).exists(), path)
        self.assertEqual(pack("folder", "64").returncode, 0, "it may be made anew")
        self.assertIn("more than 0 MiB", pack("folder", "0").stderr)
        self.assertIn("holds something else", pack("data", "64").stderr)


if __name__ == "__main__":
    unittest.main()
