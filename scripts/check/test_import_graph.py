"""Tests of import_graph.py, rust_source.py and source_widths.py on made-up trees; scripts/check/lint.sh runs them."""

import tempfile
import textwrap
import unittest
from pathlib import Path

from import_graph import Graph, describe_circles, functions, room_arrows
from rust_source import blank_comments_and_text
from source_widths import long_code_lines, long_prose_lines


class ImportGraphTest(unittest.TestCase):
    def graph(self, **files):
        """The graph of a tree; `a__b` stands for a/b.rs."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in files.items():
            path = folder / f"{name.replace('__', '/')}.rs"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(textwrap.dedent(text))
        return Graph(folder)

    def arrows(self, **files):
        return set(self.graph(**files).arrows)

    def circles(self, **files):
        return describe_circles(self.graph(**files).arrows)

    def test_a_circle_of_rooms_is_spelled_out(self):
        found = self.circles(
            main="mod run; mod train;\nfn main() { run::start() }",
            run__mod="use crate::train::steps;\npub struct Run;\npub fn start() {\n    steps(Run)\n}",
            train__mod="mod steps;\npub use steps::steps;",
            train__steps="//! Steps.\nuse crate::run::Run;\n\npub fn steps(_: Run) {}",
        )
        self.assertEqual(
            found,
            [
                "circle of 2 files: run/mod.rs, train/steps.rs; for example",
                "  run/mod.rs -> train/steps.rs because of line 1: use crate::train::steps",
                "  train/steps.rs -> run/mod.rs because of line 2: use crate::run::Run",
                "circle of 2 rooms: run, train; for example",
                "  run -> train, as run/mod.rs -> train/steps.rs because of line 1: use crate::train::steps",
                "  train -> run, as train/steps.rs -> run/mod.rs because of line 2: use crate::run::Run",
            ],
        )

    def test_rooms_may_make_a_circle_where_files_do_not(self):
        found = self.circles(
            main="mod a; mod b;\nfn main() {}",
            a__mod="mod first; mod second;",
            a__first="use crate::b::one;",
            a__second="pub struct Second;",
            b="use crate::a::second::Second;\npub fn one() {}",
        )
        self.assertEqual(found[0], "circle of 2 rooms: a, b; for example")
        self.assertEqual(len(found), 3)

    def test_a_tree_without_a_circle_passes(self):
        found = self.circles(
            main="mod data; mod model;\nfn main() { model::build(data::read()) }",
            data="pub fn read() -> u8 { 0 }",
            model__mod="mod net;\npub use net::build;",
            model__net="use crate::data;\npub fn build(_: u8) { data::read(); }",
        )
        self.assertEqual(found, [])

    def test_a_parent_that_only_reexports_does_not_import(self):
        tree = dict(
            main="mod room;\nfn main() {}",
            room__child="use super::Shared;\npub struct Item(pub Shared);",
        )
        self.assertEqual(self.circles(**tree, room__mod="mod child;\npub use child::Item;\npub struct Shared;"), [])
        needs = "mod child;\npub use child::Item;\npub struct Shared;\npub fn make() -> Item { Item(Shared) }"
        self.assertIn("circle of 2 files", self.circles(**tree, room__mod=needs)[0])

    def test_arrows_go_to_the_file_that_defines_the_name(self):
        found = self.arrows(
            main="mod room; mod user; mod facade;\nfn main() {}",
            room__mod="pub mod deep; pub use self::deep::{Item as Thing, make};",
            room__deep__mod="mod leaf; pub use leaf::*;",
            room__deep__leaf="pub struct Item; pub fn make() {}",
            facade="pub use crate::room::Thing;",
            user="use crate::facade::Thing;\nfn f() -> Thing { crate::room::make(); Thing }",
        )
        self.assertEqual(found, {("facade.rs", "room/deep/leaf.rs"), ("user.rs", "room/deep/leaf.rs")})

    def test_paths_in_code_and_imported_modules_count(self):
        found = self.graph(
            main="mod a; mod b; mod c;\nfn main() {}",
            a="use crate::b;\nfn f() {\n    b::g(crate::c::H::new())\n}",
            b="pub fn g() {}",
            c="pub struct H;",
        ).arrows
        self.assertEqual({pair: line for pair, (line, _) in found.items()}, {("a.rs", "b.rs"): 3, ("a.rs", "c.rs"): 3})

    def test_names_of_a_glob_count_where_they_occur(self):
        found = self.arrows(
            main="mod a; mod b;\nfn main() {}", a="use crate::b::*;\nfn f(_: G) {}", b="pub struct G; pub struct H;"
        )
        self.assertEqual(found, {("a.rs", "b.rs")})

    def test_a_method_that_another_file_adds_to_a_type_counts(self):
        found = self.arrows(
            main="mod run;\nfn main() {}",
            run__mod="mod train;\npub struct Run;\nimpl Run { fn go(&self) { self.train_all() } }",
            run__train="use super::Run;\nimpl Run { pub fn train_all(&self) {} }",
        )
        self.assertEqual(found, {("run/mod.rs", "run/train.rs"), ("run/train.rs", "run/mod.rs")})

    def test_tests_comments_and_text_do_not_count(self):
        found = self.arrows(
            main="mod a; mod b; #[cfg(test)] mod helpers;\nfn main() {}",
            a="""
            // use crate::b::One;
            /* crate::b::one() /* nested */ crate::b::one() */
            const TEXT: &str = "crate::b::one() \\" crate::b::one()";
            const RAW: &str = r#"crate::b::one() " "#;
            fn f<'a>(_: &'a str) -> char { '"' }
            #[cfg(test)]
            use crate::b::One;
            #[cfg(test)]
            mod tests {
                use super::*;
                fn g() { crate::b::one() }
            }
            #[cfg(test)]
            #[path = "a_test.rs"]
            mod more_tests;
            """,
            b="pub fn one() {} pub struct One;",
        )
        self.assertEqual(found, set())

    def test_functions_are_measured_outside_tests(self):
        graph = self.graph(
            main="fn main() {\n    if true {\n    }\n}\nfn short(_: [u8; 2]) {}\n#[cfg(test)]\nfn t() {}"
        )
        self.assertEqual(list(functions(graph)), [(4, "main.rs", "main"), (1, "main.rs", "short")])

    def test_a_file_and_a_folder_of_one_name_are_one_room(self):
        graph = self.graph(
            main="mod a;\nfn main() {}", a="mod b;\npub struct A;", a__b="use super::A;\npub fn f(_: A) {}"
        )
        self.assertEqual(set(graph.arrows), {("a/b.rs", "a.rs")})
        self.assertEqual(room_arrows(graph.arrows), {})

    def test_blanked_text_keeps_its_length_and_lines(self):
        text = "a /* b\n c */ 'd' \"e\nf\" // g\n'h"
        self.assertEqual([len(line) for line in blank_comments_and_text(text).split("\n")], [6, 12, 7, 2])
        self.assertEqual(blank_comments_and_text(text).split(), ["a", "'h"])


class SourceWidthsTest(unittest.TestCase):
    def test_code_may_have_120_columns(self):
        self.assertEqual(long_code_lines("a" * 120 + "\n" + "ä" * 120 + "\n" + "a" * 121), [3])

    def test_prose_may_have_140_columns_where_it_can_be_broken(self):
        words, word = "four " * 28, "x" * 200
        self.assertEqual(long_prose_lines(f"{words}\n{words}more\n{words}and more"), [2, 3])
        self.assertEqual(long_prose_lines(f"{word}\n- {word}\n1. [{word}](y)\n> {word}\n> a {word}"), [5])
        self.assertEqual(long_prose_lines(f"| {words} more |\n```bash\n{words} more\n```\n{words} more"), [5])


if __name__ == "__main__":
    unittest.main()
