"""Tests of accuracy.py on a made-up program and list; scripts/check/lint.sh runs them."""

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

import accuracy
import nnunet_peer
from accuracy_parts import experiments, machine, run_log, tables

# Where scripts/setup/libtorch.sh puts them.
sys.path.append(str(machine.ROOT / ".libtorch/site-packages"))
HAS_PILLOW = all(importlib.util.find_spec(name) for name in ("PIL", "numpy"))
# Folders of nnU-Net's raw data, and how the names of their files end.
PARTS = (("images", "_0000"), ("labels", ""))

# Stands for unet: writes down its command lines, trains in no time, and scores by seed, --tta and --ensemble.
FAKE_UNET = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
def value(flag, missing=None):
    return words[words.index(flag) + 1] if flag in words else missing
def log(*records):
    path = pathlib.Path(value("--log_dir"), "log.json")
    with open(path, "a") as file:
        for seconds, step, data in records:
            file.write("DLLL " + json.dumps(dict(elapsedtime=str(seconds), type="LOG", step=step, data=data)) + "\\n")
if words == ["--version"]:
    sys.exit(print("unet 9.9"))
with open(here / "calls.txt", "a") as file:
    file.write(" ".join(words) + "\\n")
folder = pathlib.Path(value("--model_dir"))
if "--benchmark" in words:
    log((1, [], dict(throughput_train=4.0)))
elif value("--exec_mode") == "train":
    if (here / "waits").exists():
        import signal, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit((here / "checkpoint").write_text("written") and 143))
        (here / "waits").rename(here / "started")
        time.sleep(60)
    if (here / "fails").exists() and value("--seed") == "1":
        sys.exit("out of luck")
    last = int(value("--max_steps"))
    log((1.0, "PARAMETER", {{}}), (2.0, [1], dict(train_total_loss=1.0)))
    (folder / "checkpoints").mkdir(exist_ok=True)
    if (here / "stops").exists():
        (here / "stops").unlink()
        (folder / "checkpoints" / "step-1.safetensors").touch()
        sys.exit(143)
    log((1.0 + last, [last], dict(train_total_loss=0.5)))
    (folder / "config.json").write_text(json.dumps(dict(device="cpu", libtorch_version="2", validation_slices=[3])))
    (folder / "learning_curves.csv").write_text("step,eval_dice_score,v_rand_thin\\n10,0.5,0.6\\n20,0.7,0.8\\n")
    (folder / "model.safetensors").write_text("weights")
else:
    assert (folder / "model.safetensors").read_text() == "weights"
    log((1.0, "PARAMETER", {{}}))
    score = 0.9 + 0.01 * int(value("--seed")) + 0.03 * ("--tta" in words) + 0.05 * ("--ensemble" in words)
    scores = dict(v_rand_thin=score, v_info_thin=score, dice=score, eval_dice_score=0.8, classes=[])
    (folder / "eval.json").write_text(json.dumps(scores))
"""
DOC = """# Title
<!-- table: ablation -->
<!-- end -->
between
<!-- table: targets -->
old
<!-- end -->
<!-- picture: accuracy_curves_ablation: curves -->
<!-- end -->
"""


def small_list():
    """Base with two seeds, and what shares its trainings."""
    flags = dict(split="blocks", crossvalidation_idx=0, max_steps=40, batch_size=2)
    return {
        "group": {"ablation": dict(flags=flags, seeds=[0, 1], estimate_minutes=3)},
        "experiment": [
            dict(group="ablation", name="base", base=True, title="the base", flags=dict(learning_rate=0.001)),
            dict(group="ablation", name="base_tta", run_of="base", tta=True),
            {"group": "ablation", "name": "winner", "from": "base"},
            dict(group="ablation", name="both", run_of="base", ensemble=[0, 1]),
        ],
        "target": [dict(title="high", experiment="both", score="v_rand_thin", at_least=0.93)],
    }


class HarnessTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.unet = self.folder / "bin" / "unet"
        self.unet.parent.mkdir()
        self.unet.write_text(FAKE_UNET.format(python=sys.executable))
        self.unet.chmod(0o755)
        (self.folder / "data").mkdir()
        (self.folder / "data" / "train-volume.tif").write_bytes(b"pixels")
        (self.folder / "page.md").write_text(DOC)
        self.write_list(small_list())

    def write_list(self, content):
        (self.folder / "list.json").write_text(json.dumps(content))

    def arguments(self):
        places = dict(list="list.json", data_dir="data", runs="runs", rows="rows", doc="page.md", pictures="pictures")
        places = dict(places, unet="bin/unet")
        return [word for name, place in places.items() for word in (f"--{name}", str(self.folder / place))]

    def run_it(self, *words):
        """Runs the harness. Returns the exit code, the command lines of the fake unet, and what was printed."""
        calls = self.unet.parent / "calls.txt"
        calls.unlink(missing_ok=True)
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            code = accuracy.main([*self.arguments(), *words])
        return code, calls.read_text().splitlines() if calls.exists() else [], out.getvalue()

    def row(self, name):
        return json.loads((self.folder / "rows" / f"{name}.json").read_text())

    def trainings(self, *words):
        return [call for call in self.run_it(*words)[1] if "--exec_mode train " in call and "--benchmark" not in call]

    def test_each_training_is_made_once_and_finished_rows_are_not_made_again(self):
        code, calls, printed = self.run_it()
        self.assertEqual(code, 0, printed)
        self.assertEqual(sum("--exec_mode train " in call for call in calls), 2)
        self.assertEqual(sum("--exec_mode evaluate" in call for call in calls), 7)
        rows = sorted(path.stem for path in (self.folder / "rows").iterdir())
        names = ("base-seed0", "base-seed1", "base_tta-seed0", "base_tta-seed1", "both-seed0-1")
        self.assertEqual(rows, [*names, "winner-seed0", "winner-seed1"])
        code, calls, printed = self.run_it()
        self.assertEqual((code, calls), (0, []))
        self.assertIn("nothing to train", printed)

    def test_a_row_says_what_was_measured_and_how_to_repeat_it(self):
        self.run_it()
        row = self.row("both-seed0-1")
        self.assertAlmostEqual(row["scores"]["v_rand_thin"], 0.95)
        self.assertNotIn("classes", row["scores"])
        first = row["trainings"][0]
        self.assertEqual((first["steps"], first["seconds"], first["images_seen"]), (40, 40.0, 80))
        self.assertEqual(first["curve"]["v_rand_thin"], [0.6, 0.8])
        log = next((self.folder / "runs").glob("base-seed0-*/log.json"))
        self.assertEqual(first["log_sha256"], machine.sha256(log))
        self.assertEqual(len(row["commands"]), 3)
        self.assertIn("--model_dir RUNS/base-seed0 ", row["commands"][2])
        self.assertTrue(row["commands"][2].endswith("--ensemble RUNS/base-seed1"), row["commands"][2])
        self.assertNotIn(str(self.folder), json.dumps(row))

    def test_other_flags_data_or_version_make_a_row_anew_and_keep_the_old_run(self):
        self.run_it("--names", "base")
        changed = small_list()
        changed["experiment"][0]["flags"]["learning_rate"] = 0.01
        self.write_list(changed)
        self.assertEqual(len(self.trainings("--names", "base")), 2)
        (self.folder / "data" / "train-volume.tif").write_bytes(b"others")
        self.assertEqual(len(self.trainings("--names", "base")), 2)
        self.unet.write_text(self.unet.read_text().replace("unet 9.9", "unet 9.10"))
        self.assertEqual(len(self.trainings("--names", "base")), 2)
        self.assertEqual(len(list((self.folder / "runs").glob("base-seed0-*"))), 4)
        self.assertEqual(self.run_it("--names", "base")[1], [])

    def test_a_stopped_run_is_resumed_with_the_steps_of_its_pilot(self):
        timed = small_list()
        del timed["group"]["ablation"]["flags"]["max_steps"]
        timed["experiment"] = [dict(group="ablation", name="base", flags={}, seeds=[0], minutes=2)]
        timed["target"] = []
        self.write_list(timed)
        (self.unet.parent / "stops").touch()
        code, calls, _ = self.run_it()
        self.assertEqual(code, 1)
        # 4 images a second in batches of 2: 240 steps in two minutes.
        self.assertIn("--max_steps 240", calls[1])
        self.assertIn("--overwrite", calls[1])
        code, calls, _ = self.run_it()
        self.assertEqual(code, 0)
        self.assertEqual(len(calls), 2, calls)
        self.assertIn("--max_steps 240", calls[0])
        self.assertIn("--resume_training", calls[0])
        self.assertNotIn("--overwrite", calls[0])
        row = self.row("base-seed0")
        self.assertEqual(row["trainings"][0]["starts"], 2)
        self.assertEqual(row["trainings"][0]["pilot"]["max_steps"], 240)

    def test_a_signal_reaches_the_run_and_the_script_waits_for_its_checkpoint(self):
        (self.unet.parent / "waits").touch()
        command = [sys.executable, accuracy.__file__, *self.arguments()]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not (self.unet.parent / "started").exists() and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
        printed, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1, printed)
        self.assertIn("stopped by SIGTERM", printed)
        self.assertTrue((self.unet.parent / "checkpoint").exists())

    def test_a_run_that_fails_does_not_keep_the_others_from_being_made(self):
        (self.unet.parent / "fails").touch()
        code, _, printed = self.run_it("--names", "base", "base_tta")
        self.assertEqual(code, 1)
        self.assertIn("out of luck", printed)
        self.assertTrue((self.folder / "rows" / "base_tta-seed0.json").exists())
        self.assertIn("left: base-seed1", printed)

    def test_no_run_starts_after_the_time_and_what_is_left_has_a_time(self):
        code, calls, printed = self.run_it("--max_minutes", "0")
        self.assertEqual((code, calls), (0, []))
        self.assertIn("left: base-seed0: 3 min", printed)
        self.assertIn("left: winner-seed0: only the score", printed)
        self.assertIn("about 6 minutes", printed)
        self.run_it("--names", "base")
        changed = small_list()
        changed["experiment"][0]["seeds"] = [0, 1, 2]
        self.write_list(changed)
        # Another seed took 40 seconds.
        self.assertIn("left: base-seed2: 1 min", self.run_it("--left")[2])

    def test_tables_and_plots_are_made_of_the_rows(self):
        self.run_it("--tables")
        page = (self.folder / "page.md").read_text()
        self.assertIn("<!-- table: ablation -->\nNot run yet.\n<!-- end -->\nbetween", page)
        self.assertIn("| high | not run yet | - |", page)
        self.assertIn("curves -->\nNot run yet.\n", page)
        self.run_it()
        page = (self.folder / "page.md").read_text()
        self.assertIn("| the base | 0.9050 (0.9000 to 0.9100) | +0.0000 |", page)
        self.assertIn("| base_tta | 0.9350 (0.9300 to 0.9400) | +0.0300 |", page)
        self.assertIn("| 80 | 1.000 | 0.7 | 0, 1 |", page)
        self.assertIn("| 160 | 1.000 | 1.3 | 0, 1 |", page)
        self.assertIn("| high | 0.9500 | yes |", page)
        # A line for each of 4 experiments, with 2 seeds but for the ensemble.
        svg = xml.etree.ElementTree.parse(self.folder / "pictures" / "accuracy_ablation.svg")
        self.assertEqual(sum(element.tag.endswith("circle") for element in svg.iter()), 7)
        curves = (self.folder / "pictures" / "accuracy_curves_ablation.svg").read_text()
        self.assertIn("the base", curves)
        self.assertNotIn("base_tta", curves)
        self.assertIn("-->\n![curves](pictures/accuracy_curves_ablation.svg)\n", page)

    def test_a_row_is_compared_with_the_base_of_its_own_seeds(self):
        self.run_it()
        (self.folder / "rows" / "base_tta-seed0.json").unlink()
        self.run_it("--tables")
        page = (self.folder / "page.md").read_text()
        # Seed 1 alone: 0.94 against the base's 0.91, whose mean over both seeds is 0.905.
        self.assertIn("| base_tta | 0.9400 | +0.0300 |", page)
        # The ensemble of both seeds is compared with the mean of both.
        both = self.row("both-seed0-1")["scores"]["v_rand_thin"]
        self.assertIn(f"| both | {both:.4f} | {both - 0.905:+.4f} |", page)

    def test_rows_of_other_flags_are_not_in_the_tables(self):
        self.run_it("--names", "base")
        changed = small_list()
        changed["experiment"][0]["flags"]["learning_rate"] = 0.01
        self.write_list(changed)
        self.run_it("--tables")
        self.assertIn("-->\nNot run yet.", (self.folder / "page.md").read_text())


class ListTest(unittest.TestCase):
    def test_flags_of_a_base_and_a_group_are_taken_over_and_taken_back(self):
        content = small_list()
        content["experiment"].append(
            {"group": "ablation", "name": "other", "from": "base", "flags": dict(batch_size=4, learning_rate=False)}
        )
        other = experiments.parse(content).experiments[-1]
        self.assertEqual(other.flags, dict(split="blocks", crossvalidation_idx=0, max_steps=40, batch_size=4))

    def test_a_list_that_makes_no_sense_is_refused(self):
        def with_flags(**flags):
            return dict(group="ablation", name="other", flags=flags)

        for entry, words in [
            (dict(group="none", name="other"), "group 'none'"),
            (dict(group="ablation", name="base"), "twice"),
            (dict(group="ablation", name="Other"), "small letters"),
            (dict(group="ablation", name="other", run_of="later"), "does not come before"),
            (dict(group="ablation", name="other", sedes=[1]), "'sedes'"),
            (dict(group="ablation", name="other", minutes=5), "either the flag max_steps or 'minutes'"),
            (dict(group="ablation", name="other", kind="nnunet"), "nnU-Net needs"),
            (with_flags(seed=1), "'seed' is no flag"),
            (with_flags(crossvalidation_idx=False), "crossvalidation_idx"),
            (with_flags(evaluate_every=30), "multiple of log_every, 20"),
        ]:
            content = small_list()
            content["experiment"].append(entry)
            with self.assertRaises(experiments.ListError) as caught:
                experiments.parse(content)
            self.assertIn(words, str(caught.exception))

    def test_the_projects_list_keeps_choices_away_from_the_test_block(self):
        listed = experiments.read(machine.ROOT / "scripts/bench/accuracy.toml")
        found = {each.name: each for each in listed.experiments}
        for each in listed.experiments:
            if each.group in ("ablation", "pilot"):
                self.assertEqual((each.flags["split"], each.flags["crossvalidation_idx"]), ("blocks", 4), each.name)
            if each.group == "final":
                self.assertEqual((each.flags["split"], each.flags["crossvalidation_idx"]), ("blocks", 0), each.name)
                self.assertNotIn("evaluate_every", each.flags)
        native = found["native"].training(0)
        self.assertEqual(found["native_tta"].training(0).wanted(), native.wanted())
        self.assertEqual(native.flags["max_steps"] * native.batch_size, 1400)
        # Experiments of the ablation that change something else than the number of steps see as many images.
        for name in ("batch_1", "batch_4", "glorot"):
            training = found[name].training(0)
            self.assertEqual(training.flags["max_steps"] * training.batch_size, 1400, name)
        ensemble = found["ensemble"].jobs()[0]
        self.assertEqual([each.seed for each in ensemble.trainings], [0, 1, 2])
        self.assertEqual(ensemble.trainings[1].wanted(), found["single"].training(1).wanted())
        self.assertEqual(found["transfer_tuned"].training(0).start.wanted(), found["final_native"].training(0).wanted())

    def test_the_page_has_a_table_for_each_group(self):
        listed = experiments.read(machine.ROOT / "scripts/bench/accuracy.toml")
        names = [place[2] for place in tables.PLACE.finditer((machine.ROOT / "docs/accuracy.md").read_text())]
        self.assertEqual(sorted(names), sorted([*listed.groups, "targets", "headline"]))


class PeerTest(unittest.TestCase):
    def test_blocks_are_those_of_unet(self):
        # The blocks are those of src/data/folds.rs.
        self.assertEqual(list(nnunet_peer.block(30, 4, 5)), list(range(24, 30)))
        for slices, folds in ((30, 5), (7, 3), (20, 6)):
            found = [number for fold in range(folds) for number in nnunet_peer.block(slices, fold, folds)]
            self.assertEqual(found, list(range(slices)))

    @unittest.skipUnless(HAS_PILLOW, "Pillow and numpy come with scripts/setup/libtorch.sh")
    def test_held_out_images_are_not_trained_on(self):
        import to_nnunet
        from PIL import Image

        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for part in ("images", "masks"):
            (folder / part).mkdir()
            for number in range(3):
                page = Image.new("L", (2, 1), 0)
                page.putpixel((1, 0), 255)
                page.save(folder / part / f"s{number}.png")
        arguments = [str(folder), str(folder / "raw"), "--labels", "background,inside"]
        with contextlib.redirect_stdout(io.StringIO()):
            to_nnunet.main([*arguments, "--hold_out", "s1"])
        files = sorted(str(path.relative_to(folder / "raw")) for path in (folder / "raw").rglob("*.png"))
        trained = [f"{part}Tr/s{number}{end}.png" for part, end in PARTS for number in (0, 2)]
        self.assertEqual(files, sorted([*trained, "imagesTs/s1_0000.png", "labelsTs/s1.png"]))
        self.assertEqual(json.loads((folder / "raw/dataset.json").read_text())["numTraining"], 2)
        with self.assertRaisesRegex(SystemExit, "names 's7'"):
            to_nnunet.main([*arguments, "--hold_out", "s7", "--overwrite"])

    def test_a_table_tells_what_nnunet_has_chosen(self):
        planner = dict(patch_size=[512, 256], batch_size=3, network="Net", stages=2, features=[32, 64])
        planner["normalization"] = ["ZScore"]
        words = tables.planner(dict(version="nnunetv2-2", planner=planner))
        for part in ("nnunetv2-2", "512x256", "batch 3", "2 stages with 32, 64 features", "ZScore"):
            self.assertIn(part, words)


class HeadlineTest(unittest.TestCase):
    def row(self, title, score, seconds):
        machine = dict(cpu="EPYC", cpu_numbers="family 25 model 1", cpu_extensions=["avx2"], threads=2)
        scores = dict(v_rand_thin=score, v_info_thin=score + 0.02)
        return dict(title=title, seeds=[0], scores=scores, trainings=[dict(seconds=seconds)], machine=machine)

    def test_each_of_the_two_has_its_own_minutes(self):
        targets = [dict(experiment="own", score="v_rand_thin", ahead_of="other")]
        rows = dict(own=[self.row("ours", 0.95, 3840)], other=[self.row("theirs", 0.88, 3606)])
        lines = tables.headline(targets, rows).splitlines()
        self.assertEqual(lines[0], "On 2 threads of a CPU (EPYC, family 25 model 1, avx2):")
        self.assertIn("- ours, after 64 minutes of training: V_Rand **0.9500**, V_Info **0.9700**", lines)
        self.assertIn("- theirs, after 60 minutes of training: V_Rand **0.8800**, V_Info **0.9000**", lines)
        self.assertEqual(tables.headline(targets, dict(rows, other=[])), "Not run yet.")


class RunLogTest(unittest.TestCase):
    def log(self, *records):
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "log.json"
        names = dict(train="train_total_loss", eval="eval_total_loss")
        with open(path, "w") as file:
            for seconds, kind, step in records:
                values = dict(step="PARAMETER", data={})
                record = values if kind == "start" else dict(step=[step], data={names[kind]: 1})
                file.write("DLLL " + json.dumps(dict(elapsedtime=f"{seconds}", type="LOG", **record)) + "\n")
            file.write('DLLL {"elapsedt')
        return path

    def test_validation_is_no_training_time(self):
        path = self.log((3, "start", 0), (13, "train", 20), (17, "eval", 20), (27, "train", 40), (29, "eval", 40))
        found = run_log.training_time(path)
        expected = dict(steps=40, seconds_per_step=0.5, seconds=20.0, validation_seconds=6.0, starts=1)
        self.assertEqual(found, expected)

    def test_a_resumed_run_counts_each_step_once(self):
        # Killed after step 40, resumed from a checkpoint of step 30 or so, by a slower machine.
        first = [(0, "start", 0), (20, "train", 20), (40, "train", 40)]
        second = [(5, "start", 0), (25, "train", 40), (65, "train", 60)]
        found = run_log.training_time(self.log(*first, *second))
        # 60 steps were timed in 80 seconds.
        self.assertEqual((found["steps"], found["starts"]), (60, 2))
        self.assertAlmostEqual(found["seconds"], 80.0)


if __name__ == "__main__":
    unittest.main()
