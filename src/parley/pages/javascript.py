"""JavaScript as tokens, and what its names stand for; only the forms that the widget's modules use.

Does not check that a program is right: Node does, in the tests.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "async await break case catch class const continue default delete do else export extends false finally for if "
        "function import in instanceof let new null of return super this throw true try typeof undefined void while",
    )
)
_OPERANDS = frozenset({"this", "super", "null", "true", "false", "undefined"})
_MODIFIERS = frozenset({"static", "get", "set", "async"})
_BEFORE_BLOCK = frozenset({")", "=>", "else", "try", "finally", "do", "catch", ";", "{", "}"})
_TOKEN = re.compile(
    r"((?:\s+|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)*)"
    r"(?:(#?[A-Za-z_$][\w$]*)|(\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|\d[\w.]*)|"
    r"(\.\.\.|=>|(?:\?\?|\|\||&&)=?|\*\*|[=!]==|\?\.|[-+*/%=!<>]=|\+\+|--|[-+*/%=!<>&|?:;,.(){}\[\]`])|\Z)"
)
_CHUNK = re.compile(r"[`}](?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)  # of a template
_PATTERN = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")


class Role(Enum):
    """What a token is, as far as renaming goes."""

    SIGN = auto()
    TEXT = auto()
    KEYWORD = auto()
    PROPERTY = auto()
    PRIVATE = auto()  # a property that begins with #
    VARIABLE = auto()
    SHORTHAND = auto()  # a variable, and a property of the same name


@dataclass(slots=True)
class Token:
    """One word, sign or text; of a template the pieces between its values."""

    text: str
    role: Role
    gap: str
    """What stood before it: nothing, a space or a line break."""
    inside: str
    """The bracket around it: `(`, `[`, `${`, or of braces `block`, `object`, `class`; nothing outside of all."""
    partner: int = -1
    """Of a closing bracket, where it was opened."""


def tokens_of(source: str) -> list[Token]:
    """Return a module as tokens; raises ValueError for what cannot be read."""
    reader = _Reader(source)
    reader.read()
    for at, token in enumerate(reader.found):
        if token.role is Role.VARIABLE:
            token.role = _role_of(reader.found, at)
    return reader.found


class _Reader:
    def __init__(self, source: str) -> None:
        self.found: list[Token] = []
        self._source = source
        self._brackets = [("", -1)]
        self._is_head_of_class = False

    def read(self) -> None:
        at, end = 0, len(self._source)
        while at < end:
            match = _TOKEN.match(self._source, at)
            if match is None:
                raise _unread(self._source, at)
            skipped, word, text, sign = match.groups()
            at = match.end()
            gap = ("\n" if "\n" in skipped else " ") if skipped else ""
            if word:
                role = Role.KEYWORD if word in KEYWORDS else Role.PRIVATE if word[0] == "#" else Role.VARIABLE
                if word == "class" and self._brackets[-1][0] != "object":  # there it is the name of a property
                    self._is_head_of_class = True
                self.found.append(Token(word, role, gap, self._brackets[-1][0]))
            elif text:
                self.found.append(Token(text, Role.TEXT, gap, self._brackets[-1][0]))
            elif sign:
                at = self._sign(sign, gap, at - len(sign))
        if len(self._brackets) > 1:
            raise ValueError("a bracket is never closed")

    def _sign(self, sign: str, gap: str, at: int) -> int:
        """Take a sign, or what it begins; return where that ends."""
        role, text = Role.SIGN, sign
        if sign == "`" or (sign == "}" and self._brackets[-1][0] == "${"):
            role, text = Role.TEXT, _found(_CHUNK, self._source, at)
        elif sign in {"/", "/="} and not self._follows_operand():
            role, text = Role.TEXT, _found(_PATTERN, self._source, at)
        token = Token(text, role, gap, self._brackets[-1][0])
        if sign in {")", "]", "}"}:
            if len(self._brackets) == 1:
                raise _unread(self._source, at)
            token.partner = self._brackets.pop()[1]
            token.inside = self._brackets[-1][0]
        if text.endswith(("(", "[", "{")) and (sign in {"(", "[", "{"} or text.endswith("${")):
            self._brackets.append((self._opened(text), len(self.found)))
        self.found.append(token)
        return at + len(text)

    def _opened(self, text: str) -> str:
        if text in {"(", "["}:
            return text
        if text != "{":
            return "${"
        if self._is_head_of_class:
            self._is_head_of_class = False
            return "class"
        return "block" if not self.found or self.found[-1].text in _BEFORE_BLOCK else "object"

    def _follows_operand(self) -> bool:
        if not self.found:
            return False
        last = self.found[-1]
        if last.role is Role.SIGN:
            return last.text in {")", "]", "}"}
        return last.role is not Role.KEYWORD or last.text in _OPERANDS


def _found(pattern: re.Pattern[str], source: str, at: int) -> str:
    match = pattern.match(source, at)
    if match is None:
        raise _unread(source, at)
    return match[0]


def _unread(source: str, at: int) -> ValueError:
    return ValueError(f"cannot be read: {source[at : at + 40].strip()!r}")


def _role_of(tokens: list[Token], at: int) -> Role:
    """Return what a name is by what stands around it."""
    before = tokens[at - 1].text if at else ""
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    inside = tokens[at].inside
    if before in {".", "?."}:
        return Role.PROPERTY
    if inside not in {"object", "class"}:
        return Role.VARIABLE
    is_first = before in ({"{", ","} if inside == "object" else {"{", ";", "}"})
    if not is_first and before not in _MODIFIERS:
        return Role.VARIABLE
    return Role.SHORTHAND if inside == "object" and after in {",", "}", "="} else Role.PROPERTY
