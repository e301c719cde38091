"""Accounts over HTTP."""

from typing import Annotated

from fastapi import Form, Header, status

from parley.auth.dependencies import CurrentUser, OptionalUser, Service, TheCaller, TheGate, TheSites
from parley.auth.errors import OriginRefused, WrongCredentials
from parley.auth.schemas import (
    ChangePasswordCommand,
    GuestCommand,
    LoginForm,
    RefreshCommand,
    RegisterCommand,
    TicketCommand,
    TicketView,
    TokenView,
    UserView,
    normal_email,
)
from parley.core.limits import General, GeneralByAddress, Login, Register
from parley.core.problems import problems
from parley.core.routing import api_router

router = api_router("/auth", "auth")
Origin = Annotated[str | None, Header(include_in_schema=False)]


@router.post("/register", status_code=status.HTTP_201_CREATED, responses=problems(401, 403, 409))
async def register(
    _: Register, command: RegisterCommand, guest: OptionalUser, service: Service, caller: TheCaller
) -> TokenView:
    """Make an account and sign in. Sent with a guest's token, the guest becomes the account and keeps its chats."""
    return await service.register(command.email, command.password, command.name, guest, caller)


@router.post("/token", responses=problems(401, 403))
async def token(_: Login, form: Annotated[LoginForm, Form()], service: Service, caller: TheCaller) -> TokenView:
    """Sign in with OAuth2's password form; `username` is the e-mail address."""
    try:
        email = normal_email(form.username)
    except ValueError:
        raise WrongCredentials from None
    return await service.log_in(email, form.password, caller)


@router.post("/refresh", responses=problems(401, 403))
async def refresh(_: General, command: RefreshCommand, service: Service, caller: TheCaller) -> TokenView:
    """Exchange a refresh token, once, for new tokens. Using one twice ends the session (but for 10 s of grace)."""
    return await service.refresh(command.refresh_token, caller)


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT, responses=problems(401, 403))
async def logout(_: General, user: CurrentUser, service: Service, caller: TheCaller) -> None:
    """End this session: its tokens stop working everywhere within 5 s."""
    await service.log_out(user, everywhere=False, caller=caller)


@router.post("/logout-everywhere", status_code=status.HTTP_204_NO_CONTENT, responses=problems(401, 403))
async def logout_everywhere(_: General, user: CurrentUser, service: Service, caller: TheCaller) -> None:
    """End all sessions of this account."""
    await service.log_out(user, everywhere=True, caller=caller)


@router.get("/me", responses=problems(401, 403))
async def me(_: General, user: CurrentUser, service: Service) -> UserView:
    """Tell who I am."""
    return await service.get_user(user.user_id)


@router.post("/password", responses=problems(401, 403))
async def change_password(
    _: Login, command: ChangePasswordCommand, user: CurrentUser, service: Service, caller: TheCaller
) -> TokenView:
    """Set a new password; all other sessions end."""
    return await service.change_password(user, command.current_password, command.new_password, caller)


@router.post("/guest", status_code=status.HTTP_201_CREATED, responses=problems(403))
async def guest(
    _: GeneralByAddress,
    command: GuestCommand,
    gate: TheGate,
    sites: TheSites,
    service: Service,
    caller: TheCaller,
    *,
    origin: Origin = None,
) -> TokenView:
    """Admit a visitor of a listed web page as a guest, without e-mail and password; with a key, of that site's."""
    if command.site_key is not None:
        await sites.admit(command.site_key, origin)
    elif origin is None or not gate.origins.allow(origin):
        raise OriginRefused
    return await service.admit_guest(command.name, caller)


@router.post("/ticket", status_code=status.HTTP_201_CREATED, responses=problems(401, 403))
async def ticket(
    _: General, command: TicketCommand, user: CurrentUser, gate: TheGate, origin: Origin = None
) -> TicketView:
    """Buy a ticket for one socket or stream: good for 30 s, once, for this page, user and conversation."""
    sold = gate.tickets.sell(user, origin, command.conversation_id)
    return TicketView(ticket=sold, expires_in=gate.tickets.ttl_s)
