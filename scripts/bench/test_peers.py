"""Tests of commands.py and peers.py on made-up programs; scripts/check/lint.sh runs them."""

import argparse
import contextlib
import io
import signal
import subprocess
import sys
import threading
import unittest
from pathlib import Path

import commands
import peers
from commands import CommandError, TimeLimitError

# Starts a process of its own and prints its number; takes no notice of SIGTERM.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(child.pid, flush=True)
time.sleep(300)
"""
# Counts SIGTERM; ends with exit code 0 at the first, or with 9 at the second.
COUNTING = """
import signal, sys, time
seen = []
def note(*_):
    seen.append(1)
    if len(seen) == int(sys.argv[1]): sys.exit(9 if len(seen) > 1 else 0)
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
while True: time.sleep(0.01)
"""


def python(text, *arguments):
    return [sys.executable, "-c", text, *arguments]


def is_alive(pid):
    # A process that has ended and waits to be noticed by its parent is not alive.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


class Waiting(unittest.TestCase):
    def setUp(self):
        self.patience, commands.PATIENCE = commands.PATIENCE, 0.2
        self.addCleanup(lambda: setattr(commands, "PATIENCE", self.patience))

    def test_a_program_that_takes_no_notice_is_killed_with_what_it_has_started(self):
        process = commands.start(python(STUBBORN), stdout=subprocess.PIPE, text=True)
        child = int(process.stdout.readline())
        with self.assertRaises(TimeLimitError):
            commands.wait(process, 0)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        # Closed when the last process that could write to it is gone.
        self.assertEqual(process.stdout.read(), "")
        self.assertFalse(is_alive(child))
        process.stdout.close()

    def test_a_program_gets_the_time_that_it_is_given(self):
        with self.assertRaises(TimeLimitError) as caught:
            commands.run(python("import time; time.sleep(300)"), seconds=0.5)
        self.assertGreaterEqual(caught.exception.seconds, 0.5)

    def test_a_second_signal_follows_the_first(self):
        for count, code in ((1, 0), (2, 9)):
            process = commands.start(python(COUNTING, str(count)), stdout=subprocess.PIPE)
            process.stdout.readline()
            with self.assertRaises(TimeLimitError):
                commands.wait(process, 0)
            self.assertEqual(process.returncode, code, "it was not killed")
            process.stdout.close()

    def test_a_program_that_ends_in_time_is_left_alone(self):
        output, peak = commands.run(python("print('done')"), seconds=60)
        self.assertEqual(output, "done\n")
        self.assertGreater(peak, 1 << 20)
        with self.assertRaisesRegex(CommandError, "no luck") as caught:
            commands.run(python("import sys; sys.exit('no luck')"), seconds=60)
        self.assertNotIsInstance(caught.exception, TimeLimitError)

    def test_a_peer_that_never_answers_is_ended(self):
        for text in ("import time; time.sleep(300)", "print('ready', flush=True)\nimport time; time.sleep(300)"):
            peer = peers.WaitingPeer.__new__(peers.WaitingPeer)
            peer.command, peer.process, peer.lines = python(text), None, peers.queue.Queue()
            with self.assertRaises(TimeLimitError):
                peer(seconds=1.0)
            self.assertIsNotNone(peer.process.returncode)
            peer.process.stdout.close()

    def test_a_peer_answers_in_turns_and_ends_with_its_input(self):
        answer = 'import json, sys\nprint("ready", flush=True)\nfor _ in sys.stdin: print(json.dumps(dict('
        answer += "seconds=[0.5], device_peak_bytes=7)), flush=True)"
        peer = peers.WaitingPeer.__new__(peers.WaitingPeer)
        peer.command, peer.process, peer.lines = python(answer), None, peers.queue.Queue()
        for _ in range(2):
            self.assertEqual(peer(seconds=60), ([0.5], 7, {}))
        peer.end()
        self.assertEqual(peer.process.returncode, 0)
        peer.process.stdout.close()


class Rounds(unittest.TestCase):
    def compare(self, field, rounds=2, **others):
        options = argparse.Namespace(rounds=rounds, batch_size=4, device="cpu", **others)
        original, peers.contenders = peers.contenders, lambda *_: iter(field)
        self.addCleanup(lambda: setattr(peers, "contenders", original))
        with contextlib.redirect_stderr(io.StringIO()):
            return peers.compare(options, "train")

    def contender(self, name, group, *turns):
        """One whose turns take these seconds, or fail with these errors."""
        turns = iter(turns)

        def measure(seconds):
            turn = next(turns)
            if isinstance(turn, Exception):
                raise turn
            return [turn], 1 << 20, {}

        return peers.Contender(name, group, measure)

    def test_what_was_measured_before_the_time_was_up_counts(self):
        late = TimeLimitError("late", 1)
        found = self.compare(
            [
                self.contender("unet", "unet", 2.0, late),
                self.contender("slow", "stock", 3.0, late),
                self.contender("never", "stock", late),
                self.contender("broken", "stock", 1.0, CommandError("broke")),
            ]
        )
        self.assertEqual([row["name"] for row in found["contenders"]], ["unet", "slow"])
        self.assertEqual(found["ratios"], {"stock": 1.5})
        self.assertEqual(found["failed"], {"never": "late", "broken": "broke"})

    def test_unet_must_not_fail(self):
        for error in (CommandError("broke"), TimeLimitError("late", 1)):
            with self.assertRaises(CommandError):
                self.compare([self.contender("unet", "unet", error)])

    def test_engines_are_those_that_were_asked_for(self):
        options = argparse.Namespace(device="cuda", engines=["compile_max"], batch_size=1, base_filters=2)
        options.warmup_steps = options.steps = 1
        names = [contender.name for contender in peers.contenders(options, "train", True)]
        self.assertEqual(names, ["unet", "unet --xla", "PyTorch compile_max"])
        options.device, options.engines = "cpu", None
        names = [contender.name for contender in peers.contenders(options, "predict", False)]
        self.assertIn("OpenVINO", names)
        self.assertIn("PyTorch compile, keeping allocator", names)
        options.avx2 = True
        names = [contender.name for contender in peers.contenders(options, "predict", False)]
        self.assertNotIn("OpenVINO", names)

    def test_copies_that_run_at_once_start_together_and_add_up(self):
        barrier = threading.Barrier(3)

        def measure(seconds):
            # Breaks where the three do not run at the same time.
            barrier.wait(seconds)
            return [3.0, 5.0], 10, {"tflops": 1}

        copies = peers.Contender("copies", "unet", peers.at_once(3, measure))
        (row,) = self.compare([copies], at_once=3, minutes=1)["contenders"]
        self.assertEqual((len(copies.seconds), row["peak_bytes"]), (12, 30))
        # Three copies of batch 4 in 4 s.
        self.assertEqual(row["images_per_second"], 3.0)


if __name__ == "__main__":
    unittest.main()
