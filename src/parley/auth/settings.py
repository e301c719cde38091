"""The settings of accounts, tokens and passwords."""

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from parley.core.settings import Commas, Slice

SECRET_MIN_BYTES = 32  # HS256 signs with 256 bits; a shorter key is the weakest link


def _strong(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text.encode()) < SECRET_MIN_BYTES:
        msg = f"a secret needs at least {SECRET_MIN_BYTES} bytes (try: openssl rand -base64 48)"
        raise ValueError(msg)
    if len(set(text)) < SECRET_MIN_BYTES // 4:
        msg = "a secret must be random, not a repeated pattern (try: openssl rand -base64 48)"
        raise ValueError(msg)
    # One key family per issuer: a public key used as an HMAC secret is the classic confusion.
    if "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-", "MII")):
        msg = "a secret is random text, not a key or certificate: tokens are signed with HS256 only"
        raise ValueError(msg)
    return secret


class AuthSettings(Slice):
    """Who may sign in, for how long, and at what cost."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_AUTH_")

    secrets: Annotated[tuple[Annotated[SecretStr, AfterValidator(_strong)], ...], NoDecode, Commas] = Field(
        (),
        description="Secrets of at least 32 bytes signing tokens, comma-separated: the first signs, all are accepted. "
        "Empty: one is made and kept in the data folder (not in production).",
    )
    issuer: str = Field("parley", min_length=1, description="`iss` of every token.")
    audience: str = Field("parley", min_length=1, description="`aud` of every token.")
    access_ttl_s: PositiveInt = Field(900, le=86_400, description="Seconds an access token is good for.")
    refresh_ttl_s: PositiveInt = Field(2_592_000, description="Seconds a refresh token is good for.")
    refresh_grace_s: PositiveFloat = Field(
        10.0, description="Seconds in which a refresh token used twice is refused without ending the session."
    )
    ticket_ttl_s: PositiveInt = Field(30, le=300, description="Seconds a socket ticket is good for.")
    revocation_poll_s: PositiveFloat = Field(3.0, le=4.0, description="Seconds between two reads of revoked sessions.")
    site_poll_s: PositiveFloat = Field(3.0, description="Seconds between two reads of the sites that carry the widget.")
    bcrypt_cost: int = Field(12, ge=4, le=16, description="Cost of a password hash; below 10 is refused in production.")
    hash_threads: PositiveInt = Field(2, le=16, description="Threads that hash passwords, per worker.")
    hash_queue: PositiveInt = Field(100, description="Passwords that may wait for a thread, then 503.")
