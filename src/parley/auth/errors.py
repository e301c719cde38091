"""What can go wrong with accounts, as callers see it."""

from parley.core.errors import Conflict, Forbidden, Unauthorized, Unavailable


class InvalidToken(Unauthorized):
    """The token is not one of ours, or not for this use."""

    code, message = "invalid_token", "The access token is not valid."


class TokenExpired(Unauthorized):
    """The token was ours and is too old: renew it."""

    code, message = "token_expired", "The token has expired."


class TokenRevoked(Unauthorized):
    """The session behind the token has ended."""

    code, message = "token_revoked", "This session has ended. Sign in again."


class RefreshSuperseded(Unauthorized):
    """Another refresh with this token won a moment ago; its answer holds the newer token."""

    code, message = "refresh_superseded", "This refresh token was used a moment ago."


class WrongCredentials(Unauthorized):
    """E-mail or password is wrong; which one is not said."""

    code, message = "wrong_credentials", "E-mail or password is wrong."


class AccountDisabled(Forbidden):
    """The account exists and has been switched off."""

    code, message = "account_disabled", "This account has been disabled."


class OriginRefused(Forbidden):
    """The page that calls is not on the list."""

    code, message = "origin_refused", "This page may not use the service."


class SiteRefused(Forbidden):
    """There is no such site, or it has been switched off."""

    code, message = "site_refused", "This site may not use the service."


class InvalidIdentity(Unauthorized):
    """What the site's server is said to have signed, it has not; or it is not in the right form."""

    code, message = "invalid_identity", "The identity is not valid."


class IdentityExpired(Unauthorized):
    """The site's server did sign it, and its time is over: ask that server for a new one."""

    code, message = "identity_expired", "The identity has expired."


class EmailTaken(Conflict):
    """Another account has this e-mail address."""

    code, message = "email_taken", "An account with this e-mail address exists."


class AlreadyRegistered(Conflict):
    """Only a guest can be turned into a registered account."""

    code, message = "already_registered", "You are signed in with a registered account."


class HashingBusy(Unavailable):
    """Too many passwords wait for a thread."""

    code, message = "sign_in_busy", "Too many people are signing in. Please try again."
