"""The audit trail over HTTP: what admins change and read is in it, and only admins read it."""

from typing import Any

from tests.attacks.claims import assert_refused
from tests.auth.sites import make_site
from tests.fixtures.service import Account, Service


async def trail(service: Service, admin: Account, **query: Any) -> dict[str, Any]:
    """Return a page of the trail."""
    answer = await service.http.get("/auth/audit", params=query, headers=admin.headers)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_only_admins_read_it(service: Service) -> None:
    assert_refused(await service.http.get("/auth/audit"), 401)
    for account in (await service.register(), await service.with_role("operator")):
        assert_refused(await service.http.get("/auth/audit", headers=account.headers), 403)


async def test_what_happens_to_sites_agents_and_accounts_is_in_it(service: Service) -> None:
    """By whom, with which right, from where, in which request; newest first."""
    site = await make_site(service)
    admin: Account = site["admin"]
    headers = admin.headers | {"X-Request-ID": "request-of-a-test"}
    changed = await service.http.patch(f"/auth/sites/{site['id']}", json={"disabled": True}, headers=headers)
    agent = (await service.http.get("/agents/support", headers=admin.headers)).json()
    written = await service.http.put("/agents/support", json=agent["definition"], headers=headers)
    assert (changed.status_code, written.status_code) == (200, 200)
    ada = await service.register()
    await service.parts["auth"].set_disabled(ada.user["email"], disabled=True)

    page = await trail(service, admin)

    by_action = {entry["action"]: entry for entry in page["data"]}
    assert list(by_action)[:4] == ["user_disabled", "registered", "agent_written", "site_changed"]
    for action, subject in (("site_changed", site["id"]), ("agent_written", agent["id"])):
        entry = by_action[action]
        assert (entry["actor_id"], entry["actor_role"], entry["subject_id"]) == (admin.user["id"], "admin", subject)
        assert (entry["address"], entry["request_id"]) == ("127.0.0.1", "request-of-a-test")
    assert by_action["site_changed"]["detail"] == {"changed": ["disabled"]}
    assert by_action["agent_written"]["detail"] == {"name": "support", "version": agent["version"] + 1}
    assert by_action["user_disabled"]["subject_id"] == ada.user["id"]


async def test_it_is_paged_and_narrowed(service: Service) -> None:
    admin = await service.with_role("admin")
    for _ in range(3):
        await service.log_in(admin.user["email"])

    first = await trail(service, admin, action="logged_in", actor_id=admin.user["id"], limit=3)
    second = await trail(service, admin, action="logged_in", limit=3, after=first["last_id"])
    back = await trail(service, admin, action="logged_in", limit=3, before=second["first_id"])

    assert (len(first["data"]), first["has_more"]) == (3, True)
    assert (len(second["data"]), second["has_more"]) == (1, False)
    assert back["data"] == first["data"]
    ids = [entry["id"] for entry in (*first["data"], *second["data"])]
    assert ids == sorted(ids, reverse=True)


async def test_that_it_was_read_is_in_it(service: Service) -> None:
    admin = await service.with_role("admin")
    await trail(service, admin)

    [entry] = (await trail(service, admin, action="audit_read"))["data"]

    assert (entry["actor_id"], entry["actor_role"]) == (admin.user["id"], "admin")
