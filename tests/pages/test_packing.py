"""Modules become one, and mean what they meant."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest

from parley.pages.packing import bare, pack

ENTRY = """/** Says it. */
import { twice, WORD as word } from "./deep.js";
import { all } from "./wide.js";

export function say() {
  return twice(word) + all({ word: 3, twice }); // once more
}
export const late = () => import(`./other.js`);
"""
DEEP = r"""export const WORD = "a // b  { c } 'd'";
const PATTERN = /^ {2}[/ ]x/;
export function twice(text) {
  return new Teller(text).all + PATTERN.test('  /x') + (1 + +1);
}
class Teller {
  #text;
  constructor(text) {
    this.#text = text;
  }
  get all() {
    return this.#all();
  }
  #all() {
    return this.#text + this.#text;
  }
}
"""
# Names that are variables here, properties there, and something else in another module.
WIDE = r"""const twice = 2;
const PATTERN = /[/"`]/g;
export function all({ word, twice: given, other = twice }, ...rest) {
  const shape = { word, other, rest, twice() { return given("x"); }, class: "said" };
  const [first, second = word] = [word * twice / 2 / 1, `${word > 2 ? `<${"`".replace(PATTERN, "")}${other}>` : ""}}`];
  const run = (name) => name + first;
  const keyed = { [second]: first, text: twice };
  try {
    for (const text of Object.keys(keyed)) shape.text = text + keyed[text] + run(1) + keyed.text;
    throw new Error(shape.class);
  } catch (error) {
    return JSON.stringify(shape) + error.message + shape.twice() + (first - -second.length);
  }
}
"""
SOURCES = {"entry.js": ENTRY, "deep.js": DEEP, "wide.js": WIDE}
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node here: apt-get install nodejs")


TESTS = Path(__file__).parent.parent
TESTED = ("auth", "markdown", "protocol", "sse-parser", "state", "thread")


def _widget() -> dict[str, str]:
    folder = Path(str(files("parley") / "widget"))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.js")}


def _say(sources: Mapping[str, str], folder: Path) -> str:
    """Return what the entry says."""
    for name, source in sources.items():
        (folder / name).write_text(source)
    (folder / "package.json").write_text('{"type": "module"}')
    program = 'import { say } from "./entry.js"; console.log(say())'
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", program],
        cwd=folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_node
def test_packed_modules_do_the_same(tmp_path: Path) -> None:
    packed, plain = tmp_path / "packed", tmp_path / "plain"
    packed.mkdir()
    plain.mkdir()

    assert _say({"entry.js": pack(SOURCES, "entry.js")}, packed) == _say(SOURCES, plain)


@needs_node
def test_modules_of_the_widget_pass_their_own_tests_when_packed(tmp_path: Path) -> None:
    place = tmp_path / "src" / "parley" / "widget"
    place.mkdir(parents=True)
    shutil.copytree(TESTS / "widget", tmp_path / "tests" / "widget")
    shutil.copy(TESTS / "frames.json", tmp_path / "tests")
    for name in TESTED:
        (place / f"{name}.js").write_text(pack(_widget(), f"{name}.js"))
    tests = [str(tmp_path / "tests" / "widget" / f"{name}.test.js") for name in TESTED]

    # What could differ shows in the first rounds.
    few = {**os.environ, "PARLEY_WIDGET_TIMES": "0.25"}
    done = subprocess.run(["node", "--test", *tests], capture_output=True, text=True, timeout=100, check=False, env=few)

    assert done.returncode == 0, done.stdout[-3000:]


@needs_node
def test_the_widget_can_be_read_when_it_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "packed.mjs"
    path.write_text(pack(_widget(), "widget.js"))

    done = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_comments_go_and_texts_stay() -> None:
    source = '/**\n * Why.\n */\nconst a = "/* no */ // no"; // yes\n  // yes\n  b(/** @type {any} */ (a));\n'

    assert bare(source) == 'const a = "/* no */ // no";\nb((a));\n'


def test_a_circle_is_refused() -> None:
    sources = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}

    with pytest.raises(ValueError, match="imports itself"):
        pack(sources, "a.js")


def test_a_form_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="export default"):
        pack({"a.js": "export default 1;\n"}, "a.js")
