"""How settings are shown without what must stay secret. Rather hides too much than too little."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import SecretStr

MASK = "***"
URL_SETTINGS = frozenset({"url", "base_url"})
# Whatever else stands in a query may be a password: libraries take credentials there too.
_OPEN_PARAMETERS = frozenset({"db", "host", "port", "user", "ssl", "sslmode", "protocol", "application_name"})
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def mask_url(url: str) -> str:
    """Return the URL without passwords, even where it is written wrongly: all before the last @ may be one."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return MASK
    credentials, at, place = url[scheme.end() :].rpartition("@")
    # A password with / or ? in it makes parsers disagree about where the user ends; up to the first colon all agree.
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{MASK}@" if colon else (f"{MASK}@" if at else "")
    place, question, query = place.partition("?")
    masked = "&".join(_mask_parameter(part) for part in query.split("&"))
    return f"{scheme[0]}{shown}{place}{question}{masked}"


def place_of(url: SecretStr | None) -> str:
    """Return host and path of a URL for a sentence: never its user or password."""
    text = url.get_secret_value() if url else ""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return "a URL"
    rest = text[scheme.end() :].rpartition("@")[2].partition("?")[0]
    return rest if rest and not rest.startswith("/") else "a local socket"


def mask(name: str, value: object) -> object:
    """Return the value of a setting as it may be shown: text, a number, a list or None."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return mask_url(text) if name in URL_SETTINGS else MASK
    if isinstance(value, str):
        return mask_url(value) if name in URL_SETTINGS else value
    if isinstance(value, Path | IPv4Network | IPv6Network):
        return str(value)
    if isinstance(value, Sequence):
        return [mask(name, part) for part in value]
    return value


def _mask_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    return part if not equals or not value or name.lower() in _OPEN_PARAMETERS else f"{name}={MASK}"
