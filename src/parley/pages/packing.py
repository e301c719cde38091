"""The widget in one file: a module and all it imports in one scope, with short names where nobody else sees them.

Made at the start from the modules as they are written, in the few forms they use; what it cannot read is an error.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_letters

from parley.pages.javascript import KEYWORDS, Role, Token, tokens_of

_BLOCK = re.compile(r"^[ \t]*/\*(?:[^*]|\*(?!/))*\*/[ \t]*\n?", re.MULTILINE)
_CAST = re.compile(r"/\*\* @type \{[^*]*\} \*/ ?")
_LINE = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
# Behind code, and only without quotes: then it is no part of a text.
_TAIL = re.compile(r"[ \t]+// [^\"'`\n]*$", re.MULTILINE)
_INDENT = re.compile(r"^[ \t]+|[ \t]+$", re.MULTILINE)
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w/-]+\.js)";\n?', re.MULTILINE)
_IMPORTED = re.compile(r"(\w+)(?: as (\w+))?")
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)
_DECLARING = frozenset({"const", "let", "class", "function"})
_NAMES = frozenset({Role.VARIABLE, Role.SHORTHAND})
# Modules read these from the browser, and may have a variable of the same name elsewhere.
_BROWSER = frozenset({"fetch", "location", "name", "navigator", "performance", "event", "history", "crypto"})
_SPACE_IN_STYLE = re.compile(r"(?<=[{};:,>])\s+|\s+(?=[{}>])|;\s*(?=\})")
_WORD = re.compile(r"[\w$#]")


@dataclass(slots=True)
class _Module:
    tokens: list[Token]
    imports: dict[str, tuple[str, str]]
    """Its own name for something: of which module, and what that calls it."""
    exports: list[str]
    names: dict[str, str] = field(default_factory=dict)
    """What its variables are called in the end."""


def bare(source: str) -> str:
    """Return a module without its comments and indents."""
    for what in (_BLOCK, _CAST, _LINE, _TAIL, _INDENT):
        source = what.sub("", source)
    return re.sub(r"\n{2,}", "\n", source)


def pack(sources: Mapping[str, str], entry: str) -> str:
    """Return one module that exports what the entry exports; dynamic imports stay what they are."""
    modules: dict[str, _Module] = {}
    _add(sources, entry, modules, ())
    _choose_names(modules)
    pieces = ["".join(_written(module)) for module in modules.values()]
    exported = ",".join(f"{modules[entry].names[name]} as {name}" for name in modules[entry].exports)
    return f"{''.join(pieces)}export{{{exported}}};\n"


def _add(sources: Mapping[str, str], path: str, modules: dict[str, _Module], above: tuple[str, ...]) -> None:
    """Add a module behind all it imports."""
    if path in modules:
        return
    if path in above:
        raise ValueError(f"{path} imports itself, by way of {' and '.join(above)}")
    imports = {}
    for names, wanted in _IMPORT.findall(sources[path]):
        _add(sources, wanted, modules, (*above, path))
        for name, other in _IMPORTED.findall(names):
            imports[other or name] = (wanted, name)
    exports = _EXPORT.findall(sources[path])
    tokens = tokens_of(_EXPORT.sub("", _IMPORT.sub("", sources[path])))
    for token, after in itertools.pairwise(tokens):
        if token.text == "export" or (token.text == "import" and after.text not in {"(", "."}):
            raise ValueError(f"{path} has a form that cannot be packed: {token.text} {after.text}")
    modules[path] = _Module(tokens, imports, exports)


def _choose_names(modules: Mapping[str, _Module]) -> None:
    """Give every module's own names one that no other module has, and its variables short ones."""
    taken = {token.text for module in modules.values() for token in module.tokens if token.role in _NAMES}
    tops = {path: _declared_at_top(module.tokens) for path, module in modules.items()}
    counts = {path: _counted(module, {*tops[path], *module.imports}) for path, module in modules.items()}
    short = list(itertools.islice(_short_names(taken), max(map(len, counts.values())) + sum(map(len, tops.values()))))
    shared = iter(short[max(map(len, counts.values())) :])
    for path, module in modules.items():
        module.names.update(zip(counts[path], short, strict=False))
        module.names.update({name: next(shared) for name in tops[path]})
        for name, (origin, said) in module.imports.items():
            module.names[name] = modules[origin].names[said]
        privates = Counter(token.text for token in module.tokens if token.role is Role.PRIVATE)
        module.names.update(zip([name for name, _ in privates.most_common()], map("#{}".format, short), strict=False))


def _short_names(taken: Iterable[str]) -> Iterator[str]:
    for length in (1, 2):
        for letters in itertools.product(ascii_letters, repeat=length):
            name = "".join(letters)
            if name not in taken and name not in KEYWORDS:
                yield name


def _declared_at_top(tokens: Sequence[Token]) -> list[str]:
    found = []
    for token, after in itertools.pairwise(tokens):
        if token.inside == "" and token.text in _DECLARING:
            if after.role is not Role.VARIABLE:
                raise ValueError(f"a form that cannot be packed: {token.text} {after.text}")
            found.append(after.text)
    return found


def _counted(module: _Module, others: set[str]) -> list[str]:
    """Return the variables that may be renamed, the most frequent first."""
    shorthands = {token.text for token in module.tokens if token.role is Role.SHORTHAND}
    declared = _declared_within(module.tokens) - shorthands - others - _BROWSER
    counts = Counter(token.text for token in module.tokens if token.role is Role.VARIABLE and token.text in declared)
    return [name for name, _ in counts.most_common()]


def _declared_within(tokens: Sequence[Token]) -> set[str]:
    """Return the names that are surely declared here; of others, nothing is known but that they stay."""
    found = set()
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else None
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if token.role is Role.VARIABLE and before and (before.text in _DECLARING or after == "=>"):
            found.add(token.text)
        elif token.partner >= 0 and _is_pattern(tokens, token.partner, after):
            inner = zip(tokens[token.partner : at], tokens[token.partner + 1 : at], strict=False)
            found.update(
                name.text for sign, name in inner if name.role is Role.VARIABLE and sign.text in set("([{,:") | {"..."}
            )
    return found


def _is_pattern(tokens: Sequence[Token], opened: int, after: str) -> bool:
    """Whether a bracket holds parameters, or what is taken apart."""
    before = tokens[opened - 1] if opened else None
    if before is None:
        return False
    if tokens[opened].text != "(":
        return before.text in {"const", "let"}
    is_method = after == "{" and before.role in {Role.PROPERTY, Role.PRIVATE} and before.inside in {"class", "object"}
    is_function = before.text in {"catch", "function"} or (opened > 1 and tokens[opened - 2].text == "function")
    return after == "=>" or is_method or (is_function and after == "{")


def _written(module: _Module) -> Iterator[str]:
    tokens = [token for at, token in enumerate(module.tokens) if not _is_idle(module.tokens, at)]
    _join(tokens)
    last = ";"
    for token in tokens:
        text = token.text
        if not text:
            continue
        if token.role is Role.TEXT:
            text = _SPACE_IN_STYLE.sub("", text) if text.startswith("`\n") else text
            text = text.replace("_", "") if text[0].isdigit() else text
        elif token.role is not Role.PROPERTY and text in module.names:
            text = f"{text}:{module.names[text]}" if token.role is Role.SHORTHAND else module.names[text]
        yield _gap(last, token) + text
        last = text


def _join(tokens: Sequence[Token]) -> None:
    """Make one declaration of those that follow each other; with `let` for all, which is shorter and does the same."""
    is_declaring = [False]
    for last, token in itertools.pairwise(tokens):
        if token.partner >= 0:
            is_declaring.pop()
        if token.text in {"let", "const"}:
            if last.text == ";" and is_declaring[-1]:
                last.text, token.text = ",", ""
            is_declaring[-1] = True
            token.text = token.text and "let"
        elif last.text == ";":
            is_declaring[-1] = False
        if (
            token.text.endswith(("(", "[", "{"))
            and token.role in {Role.SIGN, Role.TEXT}
            and token.text[0] not in "\"'/"
        ):
            is_declaring.append(False)


def _is_idle(tokens: Sequence[Token], at: int) -> bool:
    """Whether a sign says nothing: the last of a list or block, and brackets around a single parameter."""
    text, after = tokens[at].text, tokens[at + 1].text if at + 1 < len(tokens) else ""
    if text == ";":
        return after == "}"
    if text == ",":
        return after in {"}", "]", ")"}
    if text == ")" and after == "=>":
        at = tokens[at].partner
    is_alone = text in {"(", ")"} and [token.text for token in tokens[at + 2 : at + 4]] == [")", "=>"]
    return is_alone and tokens[at + 1].role is Role.VARIABLE


def _gap(last: str, token: Token) -> str:
    """Return what must stand between two tokens."""
    first = token.text[0]
    if _WORD.match(last[-1]) and _WORD.match(first):
        return " "
    if last[-1] == first and first in "+-":
        return " "
    # A statement may end here without a semicolon.
    return "\n" if token.gap == "\n" and (last[-1] in ")]" or _WORD.match(last[-1])) and _WORD.match(first) else ""
