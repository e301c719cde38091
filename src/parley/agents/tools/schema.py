"""From a function's signature and docstring to the JSON schema a model reads, and from its arguments back to values.

Decides what a model may hand in; runs nothing.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import from_json

from parley.agents.tools.outcome import ToolContext, ToolMistake

ARGUMENTS_CHARS = 32_768  # far above what any tool needs; what is longer is not even parsed
SHOWN_ERRORS = 5  # enough to mend a call by
SHOWN_NAME_CHARS = 40  # of a path in an error: its keys are the model's own
LARGEST_SHOWN = 2**53 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ARGUMENT = re.compile(r"\s+\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.+)")
_SECTION = re.compile(r"(Args|Arguments|Returns|Raises|Yields|Note|Notes|Example|Examples):\s*$")
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Parameters:
    """The arguments of one tool."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.description, hints = _read_docstring(function)
        self.takes_context, fields = _read_signature(function, hints)
        self._names = tuple(fields)
        self._model: type[BaseModel] = create_model(function.__name__, __config__=_CONFIG, **fields)
        self.json_schema = _without_titles(self._model.model_json_schema())

    def parse(self, arguments: str) -> dict[str, Any]:
        """Return the values to call with; raise ToolMistake for what the model must mend."""
        model = self._validate(arguments)
        return {name: getattr(model, name) for name in self._names}

    def show(self, arguments: str) -> Mapping[str, Any]:
        """Return the values as JSON would hold them; raise ToolMistake as `parse` does."""
        shown: dict[str, Any] = showable(self._validate(arguments).model_dump(mode="json", exclude_unset=True))
        return shown

    def _validate(self, arguments: str) -> BaseModel:
        if len(arguments) > ARGUMENTS_CHARS:
            raise ToolMistake(f"The arguments are longer than {ARGUMENTS_CHARS} characters.")
        # Some models send nothing where there is nothing to send.
        arguments = arguments.strip() or "{}"
        try:
            values = from_json(arguments.encode(), allow_inf_nan=False)
        except ValueError:
            raise ToolMistake("The arguments are not valid JSON.") from None
        if not isinstance(values, dict):
            raise ToolMistake("The arguments are not a JSON object.")
        if not _is_storable(values):
            raise ToolMistake("The arguments contain NUL or unpaired surrogates.")
        try:
            # Said here again, for models of the tool's own below this one.
            return self._model.model_validate_json(arguments, strict=True, extra="forbid")
        except ValidationError as error:
            raise ToolMistake(_explain(error)) from None


def _read_signature(function: Callable[..., Any], hints: Mapping[str, str]) -> tuple[bool, dict[str, Any]]:
    types = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and types.get(parameters[0].name) is ToolContext
    fields: dict[str, Any] = {}
    for parameter in parameters[1 if takes_context else 0 :]:
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(f"{function.__name__}: a tool's parameter must have a name of its own: {parameter}")
        if parameter.name not in types:
            raise TypeError(f"{function.__name__}: parameter {parameter.name} has no type")
        if types[parameter.name] is ToolContext:
            raise TypeError(f"{function.__name__}: the context must be the first parameter")
        hint, default = types[parameter.name], ... if parameter.default is parameter.empty else parameter.default
        if parameter.name in hints:
            hint = Annotated[hint, Field(description=hints[parameter.name])]
        fields[parameter.name] = (hint, default)
    return takes_context, fields


def _read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return what stands before the first section, and the lines of `Args:` by name."""
    described: list[str] = []
    hints: dict[str, str] = {}
    section, name = "", ""
    for line in (inspect.getdoc(function) or "").splitlines():
        if heading := _SECTION.match(line):
            section, name = heading[1], ""
        elif not section:
            described.append(line)
        elif section in {"Args", "Arguments"}:
            if argument := _ARGUMENT.match(line):
                name = argument[1]
                hints[name] = argument[2].strip()
            elif name:
                hints[name] = f"{hints[name]} {line.strip()}".strip()
    description = " ".join(" ".join(described).split())
    if not description:
        raise TypeError(f"{function.__name__}: a tool needs a docstring, the model chooses by it")
    return description, hints


def _without_titles(schema: Any) -> Any:
    """Drop the titles pydantic makes up from names: they cost tokens in every call and say nothing."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Below `properties` and `$defs`, `title` is a name somebody chose.
    return {
        key: {name: _without_titles(item) for name, item in value.items()}
        if key in {"properties", "$defs"}
        else _without_titles(value)
        for key, value in schema.items()
        if key != "title"
    }


def showable(value: Any) -> Any:
    """Return a JSON value with the numbers that JavaScript cannot hold as text."""
    if isinstance(value, dict):
        return {key: showable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [showable(item) for item in value]
    if isinstance(value, int) and abs(value) > LARGEST_SHOWN:
        return str(value)
    return value


def _is_storable(value: Any) -> bool:
    """Whether a parsed JSON value holds only text PostgreSQL can; its depth was bounded by the parser (200)."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, dict):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_storable, value))
    return True


def _explain(error: ValidationError) -> str:
    """Say what is wrong and where, without what was sent."""
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False)[:SHOWN_ERRORS]:
        where = ".".join(str(part) for part in detail["loc"])[:SHOWN_NAME_CHARS]
        lines.append(f"{where or 'arguments'}: {detail['msg']}")
    return "The arguments do not fit the schema. " + "; ".join(lines)
