"""The parts of scripts/check/gpu_check.py: what each runs, their order, and the table of their results."""
