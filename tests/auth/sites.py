"""A site as tests make it, and what its server signs."""

import time
from typing import Any

import httpx
from jose import jwt
from tests.fixtures.service import Account, Service

SHOP, OTHER_SHOP = "https://shop.example", "https://other.example"


async def make_site(service: Service, *origins: str, name: str = "Shop") -> dict[str, Any]:
    """Make a site by the API, as an admin."""
    admin = await service.with_role("admin")
    body = {"name": name, "origins": list(origins) or [SHOP]}
    answer = await service.http.post("/auth/sites", json=body, headers=admin.headers)
    assert answer.status_code == 201, answer.text
    return {**answer.json(), "admin": admin}


def signed(site: dict[str, Any], sub: Any = "customer-1", **claims: Any) -> str:
    """Return what the site's server says; a claim of None is left out."""
    said = {"sub": sub, "exp": int(time.time()) + 600, **claims}
    return str(jwt.encode({name: value for name, value in said.items() if value is not None}, site["secret"], "HS256"))


async def exchange(
    service: Service, site: dict[str, Any], token: str, *, origin: str | None = SHOP, guest: Account | None = None
) -> httpx.Response:
    """Ask for a session of whom the token names."""
    headers = {**({"Origin": origin} if origin is not None else {}), **(guest.headers if guest else {})}
    return await service.http.post("/auth/identity", json={"site_key": site["key"], "token": token}, headers=headers)


async def site_guest(service: Service, site: dict[str, Any], origin: str | None = SHOP) -> httpx.Response:
    """Ask to be a guest of the site."""
    headers = {"Origin": origin} if origin is not None else {}
    return await service.http.post("/auth/guest", json={"site_key": site["key"]}, headers=headers)
