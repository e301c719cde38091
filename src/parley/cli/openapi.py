"""`parley openapi`: the OpenAPI document, from the code alone. Opens neither database nor Redis."""

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from parley.app import create_app
from parley.cli.errors import CommandError
from parley.settings import Settings, load


def openapi(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.", show_default="standard output")
    ] = None,
) -> None:
    """Print the OpenAPI document as JSON."""
    document = create_app(_with_some_secret(load(env_file=Path(".env")))).openapi()
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is None:
        print(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{output} cannot be written ({(error.strerror or 'error').lower()})") from None


def _with_some_secret(settings: Settings) -> Settings:
    if settings.auth.secrets:
        return settings
    throwaway = SecretStr(secrets.token_urlsafe(48))
    return replace(settings, auth=settings.auth.model_copy(update={"secrets": (throwaway,)}))
