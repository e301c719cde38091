"""What a PromQL expression asks for, as far as a test needs it: metrics, their matchers, and labels to group by.

Reads expressions that promtool has accepted; it does not check their grammar.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

PROMTOOL_TIMEOUT_S = 110.0  # seconds on an idle machine
_STRING = re.compile(r'"[^"]*"|\'[^\']*\'')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?![\w:])\s*(?:\{([^}]*)\})?(?!\s*\()")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"})


@dataclass(frozen=True)
class Selector:
    """A metric with the labels its matchers name."""

    metric: str
    labels: frozenset[str]


def selectors(expression: str) -> Iterator[Selector]:
    """Yield what an expression selects."""
    plain = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", _STRING.sub("", expression)))
    for found in _SELECTOR.finditer(plain):
        if found[1].lower() not in _WORDS:
            yield Selector(found[1], frozenset(_LABEL.findall(found[2] or "")))


def grouped(expression: str) -> set[str]:
    """Return the labels that an expression groups or joins by."""
    return {label.strip() for found in _GROUPING.findall(expression) for label in found.split(",") if label.strip()}


def as_rules(expressions: Iterable[str]) -> str:
    """Return a file of rules that holds these expressions, for promtool to read."""
    rules = [{"record": f"check:{number}", "expr": text} for number, text in enumerate(expressions)]
    text: str = yaml.safe_dump({"groups": [{"name": "checked", "rules": rules}]})
    return text


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=PROMTOOL_TIMEOUT_S, check=False
    )
