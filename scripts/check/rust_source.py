"""Reads Rust source as far as scripts/check/import_graph.py needs it: modules, definitions, `use` declarations, paths.

A reader by patterns, not a compiler: it knows no types and expands no macros. Text that the program does not contain is
blanked first (comments, strings, `#[cfg(test)]` items), and all positions stay valid.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

COMMENT_OR_TEXT = re.compile(
    r"""//[^\n]*
    | /\*
    | (?<!\w)[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)
    | (?<!\w)[bc]?"(?:\\.|[^"\\])*"
    | (?<!\w)b?'(?:\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.)|[^\\'\n])'
    """,
    re.VERBOSE | re.DOTALL,
)
TEST_ONLY = re.compile(r"#!?\[cfg\((?:test|all\(test\b[^\]]*)\)\]")
ATTRIBUTE = re.compile(r"\s*#\[")
ITEM = re.compile(r"\s*(?:pub(?:\([^)]*\))?\s+)?(?P<keyword>\w+)")
TOKEN = re.compile(
    r"""(?P<open>\{) | (?P<close>\}) | (?P<end>;)
    | (?<![\w#])use\s(?P<use>[^;]*);
    | (?<![\w#])mod\s+(?P<child>\w+)\s*;
    | (?<![\w#])macro_rules!\s*(?P<macro>\w+)
    | (?<![\w#'*&])(?:(?P<kind>fn|struct|enum|trait|type|static)|const(?!\s+(?:fn|unsafe|async|extern)\b))\s+
      (?:mut\s+)?(?P<name>\w+)
    """,
    re.VERBOSE,
)
PATH = re.compile(r"(?<![\w.:$])(?:\$?crate|[A-Za-z_]\w*)(?:\s*::\s*[A-Za-z_]\w*)+")
WORD = re.compile(r"(?<![\w.#'])[A-Za-z_]\w*")
CLOSING = {"{": "}", "(": ")", "[": "]"}


@dataclass(eq=False)
class Use:
    """One name that a `use` declaration brings in; `name` is `*` for all names of a module."""

    path: list
    name: str
    position: int
    public: bool


@dataclass(eq=False)
class Module:
    file: "SourceFile"
    parent: "Module | None"
    name: str
    start: int
    end: int
    children: dict = field(default_factory=dict)
    # Name -> kind (fn, struct, trait, ...).
    definitions: dict = field(default_factory=dict)
    uses: list = field(default_factory=list)

    def is_within(self, other):
        module = self
        while module is not None and module is not other:
            module = module.parent
        return module is other


@dataclass(eq=False)
class Method:
    """A method of an `impl Type` block; `module` is where the block stands."""

    module: Module
    type_path: list
    name: str


class SourceFile:
    def __init__(self, path, name):
        self.path, self.name = path, name
        original = path.read_text()
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", original))]
        self.original = original
        # What the program contains, then the same without declarations of modules and imports.
        self.code = blank_tests(blank_comments_and_text(original))
        self.plain = self.code
        self.modules, self.methods = [], []

    def line(self, position):
        return bisect_right(self.line_starts, position)

    def line_text(self, number):
        return self.original.splitlines()[number - 1].strip()

    def module_at(self, position):
        inner = [module for module in self.modules if module.start <= position < module.end]
        return max(inner, key=lambda module: module.start)

    def words(self):
        return {match.group() for match in WORD.finditer(self.plain)}

    def uses_name(self, name):
        """Whether the code itself needs an imported name. Only a call tells so of a function: variables look alike."""
        if not name[0].islower():
            return re.search(rf"(?<![\w.#']){name}(?!\w)", self.plain) is not None
        variable = rf"\blet\s+(?:mut\s+)?{name}\b|(?<![\w.]){name}\s*:(?!:)|\|{name}\|"
        call = rf"(?<![\w.#'])(?<!fn ){name}\s*(?:\(|::|!)"
        return not re.search(variable, self.plain) and re.search(call, self.plain) is not None


def blank(text, start, end):
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def blank_comments_and_text(text):
    parts, position = [], 0
    while match := COMMENT_OR_TEXT.search(text, position):
        end = end_of_block_comment(text, match.start()) if match.group() == "/*" else match.end()
        parts += [text[position : match.start()], re.sub(r"[^\n]", " ", text[match.start() : end])]
        position = end
    return "".join([*parts, text[position:]])


def end_of_block_comment(text, start):
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def end_of_bracket(text, start):
    """The position after the bracket that closes the one at `start`."""
    opening, depth = text[start], 0
    for match in re.compile(r"[" + re.escape(opening + CLOSING[opening]) + r"]").finditer(text, start):
        depth += 1 if match.group() == opening else -1
        if depth == 0:
            return match.end()
    return len(text)


def blank_tests(text):
    position = 0
    while match := TEST_ONLY.search(text, position):
        if match.group().startswith("#!"):
            return blank(text, 0, len(text))
        text = blank(text, match.start(), end_of_item(text, match.end()))
        position = match.start()
    return text


def end_of_item(text, position):
    """The position after the item, statement or field that begins at `position`, attributes included."""
    while match := ATTRIBUTE.match(text, position):
        position = end_of_bracket(text, match.end() - 1)
    match = ITEM.match(text, position)
    keyword = match["keyword"] if match else ""
    # These end with a semicolon, whatever brackets come before it.
    simple = keyword in ("use", "static", "type", "let") or re.match(
        r"\s*(?:pub\S*\s+)?const\s+\w+\s*:", text[position:]
    )
    while position < len(text):
        char = text[position]
        if char in "([" or (char == "{" and simple):
            position = end_of_bracket(text, position)
        elif char == "{":
            return end_of_bracket(text, position)
        elif char == ";" or (char == "," and keyword not in ("fn", "impl", "struct", "enum", "trait", "unsafe")):
            return position + 1
        elif char in "})]":
            return position
        else:
            position += 1
    return position


def impl_type(head):
    """The path of the type in `impl<..> path<..>`, or None for the impl of a trait."""
    match = re.search(r"(?<!\w)impl\b", head)
    if not match or re.search(r"\bfor\b(?!\s*<)", head):
        return None
    rest = head[match.end() :].lstrip()
    if rest.startswith("<"):
        depth = 0
        for index, char in enumerate(rest):
            depth += (char == "<") - (char == ">" and rest[index - 1] != "-")
            if depth == 0:
                rest = rest[index + 1 :].lstrip()
                break
    path = re.match(r"[\w:]+", rest)
    return path.group().split("::") if path else None


def parse_use(text, position, public):
    """All names of one `use` declaration, given what stands between `use` and the semicolon."""
    tokens = [(match.group(), position + match.start()) for match in re.finditer(r"\w+|[{},*]", text)]
    found = []

    def tree(index, prefix):
        path, name, place = list(prefix), None, tokens[index][1] if index < len(tokens) else position
        while index < len(tokens) and tokens[index][0] not in (",", "}"):
            token, start = tokens[index]
            if token == "{":
                index += 1
                while index < len(tokens) and tokens[index][0] != "}":
                    index = tree(index, path)
                    index += index < len(tokens) and tokens[index][0] == ","
                return index + 1
            if token == "as":
                name, index = tokens[index + 1][0], index + 1
            elif token == "*":
                name = "*"
            elif not (token == "self" and path):
                path.append(token)
            place, index = start, index + 1
        found.append(Use(path, name or path[-1], place, public))
        return index

    tree(0, [])
    return found


class Parser:
    """Fills one file's modules; `load` is called for each `mod name;` with the module that declares it."""

    def __init__(self, file, module, load):
        self.file, self.load, self.methods = file, load, file.methods
        # Each open block: its module if names in it belong to that module, its type if it is an impl.
        self.blocks = [(module, None)]
        self.boundary = 0
        file.modules.append(module)

    def parse(self):
        code = self.file.code
        for token in TOKEN.finditer(code):
            head = code[self.boundary : token.start()]
            if token["open"]:
                self.open_block(head, token.end())
            elif token["close"]:
                if len(self.blocks) > 1:
                    self.blocks.pop()
            elif token["use"] is not None:
                module = self.file.module_at(token.start())
                module.uses += parse_use(token["use"], token.start("use"), "pub" in head)
                self.file.plain = blank(self.file.plain, token.start(), token.end())
            elif token["child"]:
                self.file.plain = blank(self.file.plain, token.start(), token.end())
                self.load(self.blocks[-1][0] or self.file.modules[0], token["child"], self.boundary, token.start())
            else:
                self.define(token)
                continue
            self.boundary = token.end()

    def open_block(self, head, start):
        module, _ = self.blocks[-1]
        inline = re.search(r"(?<![\w#])mod\s+(\w+)\s*$", head)
        if inline:
            end = end_of_bracket(self.file.code, start - 1)
            child = Module(self.file, self.file.module_at(start), inline[1], start, end)
            child.parent.children[inline[1]] = child
            self.file.modules.append(child)
            self.blocks.append((child, None))
        elif re.search(r"\bextern\s*$", head) or re.search(r"(?<!macro_rules)!\s*$", head):
            self.blocks.append((module, None))
        else:
            self.blocks.append((None, impl_type(head)))

    def define(self, token):
        module, type_path = self.blocks[-1]
        name, kind = token["macro"] or token["name"], token["kind"] or "const"
        if name is None:
            return
        if module is not None:
            module.definitions[name] = "macro" if token["macro"] else kind
        elif type_path and kind == "fn":
            self.methods.append(Method(self.file.module_at(token.start()), type_path, name))


def read_crate(root):
    """Reads src/main.rs or src/lib.rs and all modules that it declares outside tests. Returns root module and files."""
    files = []

    def add(path, parent, name):
        file = SourceFile(path, path.relative_to(root).as_posix())
        files.append(file)
        module = Module(file, parent, name, 0, len(file.code) + 1)
        folder = path.parent if path.stem in ("main", "lib", "mod") else path.with_suffix("")

        def load(declaring, child, start, end):
            inner, steps = declaring, []
            while inner is not module:
                steps.insert(0, inner.name)
                inner = inner.parent
            below = Path(folder, *steps)
            own = re.search(r'#\[path\s*=\s*"([^"]+)"\]', file.original[start:end])
            choices = [path.parent / own[1]] if own else [below / f"{child}.rs", below / child / "mod.rs"]
            found = next((choice for choice in choices if choice.is_file()), None)
            if found is None:
                raise FileNotFoundError(f"{file.name} declares `mod {child};`, but there is no {choices[0]}")
            declaring.children[child] = add(found, declaring, child)

        Parser(file, module, load).parse()
        return module

    start = next((root / name for name in ("main.rs", "lib.rs") if (root / name).is_file()), None)
    if start is None:
        raise FileNotFoundError(f"no main.rs or lib.rs in '{root}'")
    return add(start, None, "crate"), files
