"""What must not be in a log line or a span: found by the name of its key, or by the look of the text. Pure."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "[hidden]"
_SECRET_KEYS = re.compile(r"passw|secret|token|ticket|authorization|cookie|api_?key", re.IGNORECASE)
# Counts, which say nothing of what was said.
_HARMLESS_KEYS = re.compile(r"^(?:input|output|cached|prompt|completion)_tokens$|^first_token_s$")
# Query strings of sockets are logged by the server below us; bearer tokens may stand in anything.
_SECRET_TEXT = re.compile(
    r"(?P<keep>[?&](?:ticket|token|access_token|refresh_token|cursor|q)=)[^&\s\"']+"
    r"|(?P<scheme>\b[Bb](?:earer|asic)\s+)[^\s\"',]+"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|\bprt_[A-Za-z0-9_-]{20,}"
    r"|\bsk[-_][A-Za-z0-9_-]{16,}"
)
# Without one of them there is none of the above; most strings are told apart so, in a tenth of the time.
_SIGNS = ("?", "&", "earer", "asic", "eyJ", "prt_", "sk-", "sk_")
_PASSWORD_IN_URL = re.compile(r"(?P<keep>://[^\s:/?#@]*:)[^\s/?#@]+(?=@)")
# A row that was refused, as PostgreSQL quotes it.
_DETAIL = re.compile(
    r"(?P<keep>DETAIL: ).*?(?=\n(?:HINT|CONTEXT|\[SQL)|\n\n(?:The above|During handling)|\Z)", re.DOTALL
)
# Bounded on both sides, so that a long word without an end costs no more than its length.
_EMAIL = re.compile(
    r"[^\s@<>()\[\]\"',;:=/]{1,64}@[^\s@<>()\[\]\"',;:=/.]{1,63}(?:\.[^\s@<>()\[\]\"',;:=/.]{1,63}){1,8}"
)
# Of cards, accounts and telephones, in groups or not.
_LONG_NUMBER = re.compile(r"\+?\d(?:[ ./-]?\d){8,24}")


def redact(text: str) -> str:
    """Return the text without secrets, e-mail addresses and quoted rows."""
    for sign in _SIGNS:
        if sign in text:
            text = _SECRET_TEXT.sub(_mask, text)
            break
    if "DETAIL: " in text:
        text = _DETAIL.sub(_mask, text)
    return _EMAIL.sub(MASK, _PASSWORD_IN_URL.sub(_mask, text)) if "@" in text else text


def redact_said(text: str) -> str:
    """Return what somebody said without what could name them or pay for them, as far as that has a look."""
    return _LONG_NUMBER.sub(MASK, redact(text))


def hide(key: str, value: Any) -> Any:
    """Return a value of a log line as it may be written."""
    if isinstance(value, str):
        return MASK if is_secret(key) else redact(value)
    if isinstance(value, Mapping):
        return {inner: hide(str(inner), part) for inner, part in value.items()}
    if isinstance(value, list | tuple):
        return [hide(key, part) for part in value]
    return value


def is_secret(key: str) -> bool:
    """Whether what has such a name is never shown."""
    return _SECRET_KEYS.search(key) is not None and _HARMLESS_KEYS.search(key) is None


def _mask(match: re.Match[str]) -> str:
    named = match.groupdict()
    return (named["keep"] or named.get("scheme") or "") + MASK
