"""Modules become one, and mean what they meant."""

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from parley.pages.packing import bare, pack

SOURCES = {
    "entry.js": '/** Says it. */\nimport { twice, WORD as word } from "./deep.js";\n\nexport function say() {\n'
    "  return twice(word); // once more\n}\nexport const late = () => import(`./other.js`);\n",
    "deep.js": "export const WORD = \"a // b  { c } 'd'\";\nconst PATTERN = /^ {2}[/ ]x/;\n"
    "export function twice(text) {\n  return new Teller(text).all + PATTERN.test('  /x') + (1 + +1);\n}\n"
    "class Teller {\n  #text;\n  constructor(text) {\n    this.#text = text;\n  }\n  get all() {\n"
    "    return this.#all();\n  }\n  #all() {\n    return this.#text + this.#text;\n  }\n}\n",
}
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node here: apt-get install nodejs")


def _run(source: str, folder: Path) -> str:
    path = folder / "packed.mjs"
    path.write_text(source)
    done = subprocess.run(["node", str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_node
def test_packed_modules_do_the_same(tmp_path: Path) -> None:
    said = _run(pack(SOURCES, "entry.js") + "console.log(say());\n", tmp_path)

    assert said == "a // b  { c } 'd'a // b  { c } 'd'true2\n"


@needs_node
def test_the_widget_can_be_read_when_it_is_packed(tmp_path: Path) -> None:
    folder = Path(str(files("parley") / "widget"))
    sources = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.js")}
    path = tmp_path / "packed.mjs"
    path.write_text(pack(sources, "widget.js"))

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
    with pytest.raises(ValueError, match="export default 1"):
        pack({"a.js": "export default 1;\n"}, "a.js")
