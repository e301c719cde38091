"""Retention, export and erasure from the command line."""

import json

from tests.cli.conftest import Parley
from tests.fixtures.service import Service

NO_SUCH = "01a1fe4f-2d28-704e-a3ef-a4e9a23d0fb0"


async def test_retention_says_what_it_did_and_what_it_would(
    parley: Parley, cold_parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    guest = await service.guest()
    async with service.parts["database"].transaction() as db:
        await (await db.connection()).exec_driver_sql("UPDATE sessions SET expires_at = now() - interval '9 days'")

    would = await parley("retention", "--archive-after", "30", "--delete-after", "90", "--dry-run", **stores)
    did = await cold_parley("retention", "--archive-after", "30", "--delete-after", "90", **stores)
    crossed = await parley("retention", "--archive-after", "90", "--delete-after", "30", **stores)

    assert (would.code, would.err) == (did.code, did.err) == (0, "")
    assert "sessions\t1" in would.out.splitlines()
    assert {"sessions\t1", "people_without_anything\t1"} <= set(did.out.splitlines())
    assert (crossed.code, crossed.error) == (1, "--archive-after must be shorter than --delete-after")
    assert (await service.http.post("/auth/refresh", json={"refresh_token": guest.refresh_token})).status_code == 401


async def test_people_are_exported_and_erased_by_address_or_id(
    parley: Parley, service: Service, stores: dict[str, str]
) -> None:
    ada = await service.register("ada@shop.example")
    exported = await parley("users", "export", "Ada@shop.example", **stores)
    unsure = await parley("users", "erase", "ada@shop.example", **stores)
    erased = await parley("users", "erase", "ada@shop.example", "--yes", **stores, PARLEY_AUTH_REVOCATION_POLL_S="0.2")
    gone = await parley("users", "export", "ada@shop.example", **stores)
    nobody = await parley("users", "erase", NO_SUCH, "--yes", **stores)

    assert json.loads(exported.out)["account"]["id"] == ada.user["id"]
    assert (unsure.code, unsure.error) == (1, "there is no terminal to ask on: use --yes")
    assert (erased.code, erased.err) == (0, "")
    assert erased.out.startswith(f"erased {ada.user['id']}: ")
    assert (gone.code, gone.error) == (1, "There is no account ada@shop.example.")
    assert (nobody.code, nobody.error) == (1, "There is no such person.")
