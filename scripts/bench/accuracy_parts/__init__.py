"""Parts of scripts/bench/accuracy.py."""
