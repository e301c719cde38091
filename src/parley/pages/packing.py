"""The widget in one file: a module and all it imports, each in a function of its own, without comments.

Made at the start from the modules as they are written, in the few forms they use; what it cannot read is an error.
"""

import re
from collections.abc import Mapping

_BLOCK = re.compile(r"^[ \t]*/\*(?:[^*]|\*(?!/))*\*/[ \t]*\n?", re.MULTILINE)
_CAST = re.compile(r"/\*\* @type \{[^*]*\} \*/ ?")
_LINE = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
# Behind code, and only without quotes: then it is no part of a text.
_TAIL = re.compile(r"[ \t]+// [^\"'`\n]*$", re.MULTILINE)
_INDENT = re.compile(r"^[ \t]+|[ \t]+$", re.MULTILINE)
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w/-]+\.js)";\n?', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
_PRIVATE = re.compile(r"^(?:static |async |get |set )*#(\w+)(?= ?[=;(]|$)", re.MULTILINE)
# Texts, templates and patterns stay; around other signs no space is needed (plus and minus may be two of them).
_TEXT = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`"
_PATTERN = r"(?:(?<=[=(,:?&|!\[])|(?<=[=,:?&|] ))/(?![/*])(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*"
_PIECE = re.compile(rf"({_TEXT}|{_PATTERN})| ?(=>|[=?:,;{{(<>|&])\s*| ?([}})]) ?", re.DOTALL)
_SPACE_IN_STYLE = re.compile(r"(?<=[{};:,])\s+|\s+(?=[{}])")
_UNREAD = re.compile(r"^(?:import|export)\b(?!\()", re.MULTILINE)


def bare(source: str) -> str:
    """Return a module without its comments and indents."""
    for what in (_BLOCK, _CAST, _LINE, _TAIL, _INDENT):
        source = what.sub("", source)
    return re.sub(r"\n{2,}", "\n", source)


def pack(sources: Mapping[str, str], entry: str) -> str:
    """Return one module that exports what the entry exports; dynamic imports stay what they are."""
    made: dict[str, str] = {}
    _add(sources, entry, made, ())
    exported = ",".join(_EXPORT.findall(sources[entry]))
    return f"{''.join(made.values())}export const{{{exported}}}={_name(entry)};\n"


def _short(source: str) -> str:
    """Return a module without spaces that say nothing, and with short names where nobody else sees them."""
    for number, name in enumerate(dict.fromkeys(_PRIVATE.findall(source))):
        source = re.sub(rf"#{name}\b", f"#{chr(97 + number % 26)}{number // 26 or ''}", source)
    return _PIECE.sub(lambda found: _kept(found[1]) if found[1] else found[2] or found[3], source)


def _kept(text: str) -> str:
    """Return a text as it is; only a template of many lines is a style sheet, where spaces say less."""
    return _SPACE_IN_STYLE.sub("", text) if text.startswith("`\n") else text


def _add(sources: Mapping[str, str], path: str, made: dict[str, str], above: tuple[str, ...]) -> None:
    """Add a module behind all it imports."""
    if path in made:
        return
    if path in above:
        raise ValueError(f"{path} imports itself, by way of {' and '.join(above)}")
    source = bare(sources[path])
    taken = []
    for names, wanted in _IMPORT.findall(source):
        _add(sources, wanted, made, (*above, path))
        taken.append(f"const{{{re.sub(r' as ', ':', ' '.join(names.split()))}}}={_name(wanted)};\n")
    exported = ",".join(_EXPORT.findall(source))
    body = _short(_EXPORT.sub("", _IMPORT.sub("", source)))
    if unread := _UNREAD.search(body):
        line = body[unread.start() :].partition("\n")[0]
        raise ValueError(f"{path} has a form that cannot be packed: {line}")
    made[path] = f"const {_name(path)}=(()=>{{\n{''.join(taken)}{body}return{{{exported}}};\n}})();\n"


def _name(path: str) -> str:
    return "$" + re.sub(r"\W", "_", path.removesuffix(".js"))
