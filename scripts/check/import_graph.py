#!/usr/bin/env python3
"""Which Rust file imports which, and which room (entry of src/) which room. Fails where the imports make a circle.

Usage: scripts/check/import_graph.py [--table] [FOLDER]    (default: the project's src)

An arrow goes to the file that defines a name, through all re-exports. A file that only declares modules or re-exports
their names does not import them; code of a parent module that needs an item of a child does. Tests do not count.
--table also prints the rooms, with their files and imports, and some counts.
"""

import argparse
import re
import statistics
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from rust_source import PATH, WORD, end_of_bracket, read_crate
from source_widths import CODE_SUFFIXES, long_lines, project_files

ROOT = Path(__file__).resolve().parents[2]


class Graph:
    """Arrows between files: (from, to) -> the line that makes the arrow, as a number and as text."""

    def __init__(self, folder):
        self.root, self.files = read_crate(folder)
        self.arrows = {}
        self.foreign_methods = self.find_foreign_methods()
        for file in self.files:
            for module in file.modules:
                for use in module.uses:
                    self.add_use(module, use)
            self.add_paths(file)
            self.add_method_calls(file)

    def add(self, source, target, line, reason=None):
        """An arrow to the file of `target`, a module, because of what a line says or of another reason."""
        if target.file is not source:
            reason = reason or source.line_text(line)
            self.arrows.setdefault((source.name, target.file.name), (line, reason))

    # --- names -------------------------------------------------------------------------------------------------

    def look_up(self, module, name, seen):
        """What `name` means in a module: ("module", M), ("item", module that defines it), or None."""
        if name in module.definitions:
            return "item", module
        if name in module.children:
            return "module", module.children[name]
        if (module, name) in seen:
            return None
        seen = seen | {(module, name)}
        for use in module.uses:
            if use.name == name and (found := self.resolve(module, use.path, seen)):
                return found
        for use in module.uses:
            if use.name == "*":
                found = self.resolve(module, use.path, seen)
                if found and found[0] == "module" and (named := self.look_up(found[1], name, seen)):
                    return named
        return None

    def resolve(self, module, path, seen=frozenset()):
        """What a path means in a module; None for another crate's. An unknown name counts as the module's own."""
        if path[0] in ("crate", "$crate"):
            found, rest = ("module", self.root), path[1:]
        elif path[0] in ("self", "super"):
            found, rest = ("module", module), path
        else:
            found, rest = self.look_up_first(module, path, seen), path[1:]
        for step in rest:
            if found is None or found[0] == "item":
                break
            if step == "super":
                found = ("module", found[1].parent)
            elif step != "self":
                inner = self.look_up(found[1], step, seen)
                if inner and inner[0] == "item" and step in found[1].children and step is not rest[-1]:
                    inner = ("module", found[1].children[step])
                found = inner or ("item", found[1])
        return found

    def look_up_first(self, module, path, seen):
        if len(path) > 1 and path[0] in module.children:
            return "module", module.children[path[0]]
        return self.look_up(module, path[0], seen)

    # --- arrows ------------------------------------------------------------------------------------------------

    def add_use(self, module, use):
        file, line, text = module.file, module.file.line(use.position), f"use {'::'.join(use.path)}"
        found = self.resolve(module, use.path)
        if found is None:
            return
        kind, target = found
        if use.name == "*" and kind == "module":
            self.add_glob(module, use, target)
        elif kind == "module":
            # Paths that begin with the module's name have arrows of their own.
            used = re.search(rf"(?<![\w.:]){re.escape(use.name)}\s*::", file.plain)
            if not used and not (use.public and target.is_within(module)):
                self.add(file, target, line, text)
        elif not target.is_within(module) or file.uses_name(use.name) or self.is_private_trait(use, target):
            self.add(file, target, line, text)

    def is_private_trait(self, use, target):
        """A trait may be imported only for its methods, so that its name does not occur again."""
        return not use.public and target.definitions.get(use.path[-1]) == "trait"

    def add_glob(self, module, use, target):
        file = module.file
        for word in file.words():
            found = self.look_up(target, word, frozenset())
            if found and (not found[1].is_within(module) or file.uses_name(word)):
                match = next(match for match in WORD.finditer(file.plain) if match.group() == word)
                self.add(
                    file, found[1], file.line(match.start()), f"{word}, by the glob in line {file.line(use.position)}"
                )

    def add_paths(self, file):
        for match in PATH.finditer(file.plain):
            path = re.split(r"\s*::\s*", match.group())
            module = file.module_at(match.start())
            found = self.resolve(module, path)
            if found:
                self.add(file, found[1], file.line(match.start()))
                for method in self.foreign_methods.get(path[-1], []):
                    if found[0] == "item" and len(path) > 1 and method.type_path[-1] == path[-2]:
                        self.add(file, method.module, file.line(match.start()))

    def find_foreign_methods(self):
        """Methods of types that another file defines, by name, where no other file has a method of that name."""
        definers = defaultdict(set)
        for file in self.files:
            for match in re.finditer(r"\bfn\s+(\w+)", file.code):
                definers[match[1]].add(file)
        foreign = defaultdict(list)
        for file in self.files:
            for method in file.methods:
                home = self.resolve(method.module, method.type_path)
                if home and home[1].file is not file and definers[method.name] == {file}:
                    foreign[method.name].append(method)
        return foreign

    def add_method_calls(self, file):
        for name, methods in self.foreign_methods.items():
            if match := re.search(rf"\.{name}\s*(?:::<[^;]*?>)?\(|\bSelf::{name}\b", file.plain):
                for method in methods:
                    self.add(file, method.module, file.line(match.start()))


def room_of(name):
    return name.split("/")[0].removesuffix(".rs")


def room_arrows(arrows):
    """The arrows between rooms, each with the first file arrow that makes it."""
    rooms = {}
    for source, target in arrows:
        if room_of(source) != room_of(target):
            rooms.setdefault((room_of(source), room_of(target)), (source, target))
    return rooms


def circles(arrows):
    """One shortest circle for each group of nodes that reach each other: [(members, [node, ...])]."""
    targets = defaultdict(list)
    for source, target in arrows:
        targets[source].append(target)

    def reach(start):
        """Each node that can be reached, with the node before it on a shortest way."""
        before, queue = {}, [start]
        for node in queue:
            for target in targets.get(node, ()):
                if target not in before:
                    before[target] = node
                    queue.append(target)
        return before

    reached = {node: reach(node) for node in list(targets)}
    found, done = [], set()
    for node in sorted(targets):
        if node in done or node not in reached[node]:
            continue
        members = sorted(other for other in reached[node] if node in reached.get(other, ()))
        done.update(members)
        ways = []
        for member in members:
            way = [member]
            while len(way) == 1 or way[-1] != member:
                way.append(reached[member][way[-1]])
            ways.append(way[::-1])
        found.append((members, min(ways, key=len)))
    return found


def describe_arrow(arrows, source, target):
    line, text = arrows[source, target]
    return f"{source} -> {target} because of line {line}: {text}"


def describe_circles(arrows):
    """Text about all circles, of files and of rooms; empty if there is none."""
    lines = []
    for members, way in circles(arrows):
        lines.append(f"circle of {len(members)} files: {', '.join(members)}; for example")
        lines += [f"  {describe_arrow(arrows, *pair)}" for pair in pairwise(way)]
    rooms = room_arrows(arrows)
    for members, way in circles(rooms):
        lines.append(f"circle of {len(members)} rooms: {', '.join(members)}; for example")
        for source, target in pairwise(way):
            lines.append(f"  {source} -> {target}, as {describe_arrow(arrows, *rooms[source, target])}")
    return lines


def functions(graph):
    """(lines, file, name) of each function outside tests, by matching braces."""
    for file in graph.files:
        for match in re.finditer(r"(?<![\w#])fn\s+(\w+)", file.code):
            position = match.end()
            while position < len(file.code) and file.code[position] not in "{;":
                position = end_of_bracket(file.code, position) if file.code[position] in "([" else position + 1
            if file.code[position : position + 1] == "{":
                end = end_of_bracket(file.code, position)
                yield file.line(end - 1) - file.line(match.start()) + 1, file.name, match[1]


def print_table(graph, folder):
    lines = {
        path.relative_to(folder).as_posix(): path.read_text().count("\n")
        for path in sorted(folder.rglob("*"))
        if path.suffix in CODE_SUFFIXES
    }
    imports = defaultdict(set)
    for source, target in room_arrows(graph.arrows):
        imports[source].add(target)
    print(f"{'room':18}{'files':>6}{'lines':>7}{'longest':>9}  imports")
    for room in sorted({room_of(name) for name in lines}):
        sizes = [count for name, count in lines.items() if room_of(name) == room]
        print(f"{room:18}{len(sizes):>6}{sum(sizes):>7}{max(sizes):>9}  {' '.join(sorted(imports[room]))}")
    found = sorted(functions(graph), reverse=True)
    longest = max(lines, key=lines.get)
    code, prose = long_lines(project_files(folder.parent))
    print(f"entries of {folder.name}/: {sum(1 for _ in folder.iterdir())}")
    print(f"arrows between rooms: {len(room_arrows(graph.arrows))}, between files: {len(graph.arrows)}")
    print(f"longest file: {longest}, {lines[longest]} lines")
    middle = statistics.median(count for count, _, _ in found)
    print(f"longest function: {found[0][2]} in {found[0][1]}, {found[0][0]} lines; median {middle:g}")
    print(f"lines past the limit of columns: {len(code)} of code, {len(prose)} of prose")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "src")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    graph = Graph(options.folder)
    if options.table:
        print_table(graph, options.folder)
    problems = describe_circles(graph.arrows)
    print("\n".join(problems) if problems else f"import graph: {len(graph.files)} files, no circle")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
