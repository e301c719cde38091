"""Sites over HTTP: for admins; and for their pages, the exchange of what their servers say of a user."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, status
from starlette.requests import HTTPConnection

from parley.auth.dependencies import Admin, OptionalUser, TheCaller, TheSites
from parley.auth.schemas import IdentityCommand, TokenView
from parley.auth.sites_identity import SiteIdentities
from parley.auth.sites_schemas import CreateSiteCommand, PatchSiteCommand, SiteView, SiteWithSecretView
from parley.auth.sites_service import SiteService
from parley.core.limits import General, GeneralByAddress, Lists
from parley.core.problems import problems
from parley.core.routing import api_router
from parley.core.schemas import Id, Page

router = api_router("/auth", "sites")


async def _service(connection: HTTPConnection) -> SiteService:
    service: SiteService = connection.state.site_service
    return service


async def _identities(connection: HTTPConnection) -> SiteIdentities:
    identities: SiteIdentities = connection.state.site_identities
    return identities


Service = Annotated[SiteService, Depends(_service)]
Identities = Annotated[SiteIdentities, Depends(_identities)]


@router.post("/identity", responses=problems(401, 403))
async def identity(
    _: GeneralByAddress,
    command: IdentityCommand,
    guest: OptionalUser,
    sites: TheSites,
    identities: Identities,
    caller: TheCaller,
    *,
    origin: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> TokenView:
    """Sign in whom a site's server names. Sent with a guest's token, the guest's conversations come along."""
    await sites.admit(command.site_key, origin)
    return await identities.exchange(command.site_key, command.token, guest, caller)


@router.get("/sites", responses=problems(401, 403))
async def list_sites(
    _: Lists,
    _admin: Admin,
    service: Service,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: UUID | None = None,
    before: UUID | None = None,
) -> Page[SiteView]:
    """List sites, oldest first."""
    return await service.list_sites(limit, after, before)


@router.post("/sites", status_code=status.HTTP_201_CREATED, responses=problems(401, 403))
async def create_site(_: General, admin: Admin, service: Service, command: CreateSiteCommand) -> SiteWithSecretView:
    """Make a site: its public key for its pages, and the secret for its server, which is shown this once."""
    return await service.create_site(command, admin.user_id)


@router.get("/sites/{site_id}", responses=problems(401, 403, 404))
async def get_site(_: General, _admin: Admin, service: Service, site_id: Id) -> SiteView:
    """Read a site."""
    return await service.get_site(site_id)


@router.patch("/sites/{site_id}", responses=problems(401, 403, 404))
async def change_site(_: General, admin: Admin, service: Service, site_id: Id, command: PatchSiteCommand) -> SiteView:
    """Change name or origins, switch it off or on. A page that is taken off is refused within 5 s."""
    return await service.change_site(site_id, command, admin.user_id)


@router.post("/sites/{site_id}/secret", responses=problems(401, 403, 404))
async def rotate_secret(_: General, admin: Admin, service: Service, site_id: Id) -> SiteWithSecretView:
    """Make another secret, shown this once. What the old one signed is refused, and its sessions are not renewed."""
    return await service.rotate_secret(site_id, admin.user_id)
