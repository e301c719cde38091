"""Signing in, and staying so: the tokens of one session, renewed before they end and when they are refused."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from parley.client.comeback import Interrupted
from parley.client.errors import Refused
from parley.client.plain import check, open_http, unreachable

EARLY_S = 60.0  # a connection should not be opened with a token that is about to end


class SignIn:
    """One session; given to a ParleyClient as its token."""

    def __init__(self, base_url: str, *, http: httpx.AsyncClient | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._http = http or open_http(self._base_url)
        self._owns_http = http is None
        self._lock = asyncio.Lock()
        self._tokens: Mapping[str, Any] = {}
        self._good_until = 0.0

    @property
    def user(self) -> Mapping[str, Any]:
        """Whose session it is."""
        user: Mapping[str, Any] = self._tokens["user"]
        return user

    async def as_guest(self, name: str = "", *, origin: str | None = None) -> None:
        """Begin as somebody new, as a visitor of a page the service lists; by default its own."""
        url = httpx.URL(self._base_url)
        page = origin or f"{url.scheme}://{url.netloc.decode()}"
        await self._begin("/auth/guest", json={"name": name}, headers={"Origin": page})

    async def as_account(self, email: str, password: str) -> None:
        """Begin as somebody known."""
        await self._begin("/auth/token", data={"username": email, "password": password})

    async def __call__(self, is_stale: bool) -> str:
        """Return an access token that is good for a while; refreshes are made one at a time, for each works once."""
        async with self._lock:
            if is_stale or asyncio.get_running_loop().time() > self._good_until:
                await self._refresh()
        token: str = self._tokens["access_token"]
        return token

    async def close(self) -> None:
        """Close what was opened here; the session itself goes on."""
        if self._owns_http:
            await self._http.aclose()

    async def _begin(self, path: str, **request: Any) -> None:
        try:
            self._keep(await self._post(path, **request))
        except Interrupted as error:
            raise Refused(error.code, error.message, is_retryable=error.move == "come_back") from None

    async def _refresh(self) -> None:
        try:
            self._keep(await self._post("/auth/refresh", json={"refresh_token": self._tokens["refresh_token"]}))
        except Interrupted as error:
            if error.move == "renew":
                raise Interrupted("stay_away", error.code, error.message) from None
            raise

    def _keep(self, tokens: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._good_until = asyncio.get_running_loop().time() + float(tokens["expires_in"]) - EARLY_S

    async def _post(self, path: str, **request: Any) -> Mapping[str, Any]:
        try:
            response = await self._http.post(f"{self._base_url}{path}", **request)
        except httpx.TransportError as error:
            raise unreachable(error) from None
        check(response)
        tokens: Mapping[str, Any] = response.json()
        return tokens
