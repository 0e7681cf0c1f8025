#!/usr/bin/env python3
"""Fails on lines of code past 120 columns and on lines of Markdown prose past 140.

Usage: scripts/check/source_widths.py [FILE...]    (default: all files that git knows or would add)

Prose excludes tables, code blocks, and lines that have no space to break them at.
"""

import re
import subprocess
import sys
from pathlib import Path

CODE_COLUMNS, PROSE_COLUMNS = 120, 140
CODE_SUFFIXES = {".rs", ".cpp", ".h", ".cu", ".cuh", ".py", ".sh", ".sbatch"}
CODE_NAMES = {"Dockerfile", "run"}
# What begins a line of prose but is no place to break it: indentation, list marks, quote marks.
LINE_START = re.compile(r"\s*(?:(?:[-*+>]|\d+[.)])\s+)*\S")


def project_files(root):
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [root / name for name in sorted(set(names)) if name and (root / name).is_file()]


def is_code(path):
    return path.suffix in CODE_SUFFIXES or path.name in CODE_NAMES


def long_code_lines(text):
    return [number for number, line in enumerate(text.splitlines(), 1) if len(line) > CODE_COLUMNS]


def long_prose_lines(text):
    found, fence = [], None
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = None
        elif mark:
            fence = mark[1]
        elif len(line) > PROSE_COLUMNS and not line.lstrip().startswith("|"):
            begin = LINE_START.match(line).end()
            if " " in line[begin : PROSE_COLUMNS + 1].rstrip():
                found.append(number)
    return found


def long_lines(paths):
    """(file, line number) of all lines past the limits: of code, of prose."""
    code, prose = [], []
    for path in paths:
        if is_code(path):
            code += [(path, number) for number in long_code_lines(path.read_text())]
        elif path.suffix == ".md":
            prose += [(path, number) for number in long_prose_lines(path.read_text())]
    return code, prose


def main():
    paths = list(map(Path, sys.argv[1:])) or project_files(Path(__file__).resolve().parents[2])
    code, prose = long_lines(paths)
    for path, number in code:
        print(f"{path}:{number}: code past {CODE_COLUMNS} columns")
    for path, number in prose:
        print(f"{path}:{number}: prose past {PROSE_COLUMNS} columns")
    sys.exit(1 if code or prose else 0)


if __name__ == "__main__":
    main()
