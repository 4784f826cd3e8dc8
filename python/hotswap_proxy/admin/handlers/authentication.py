"""Logging in."""

from __future__ import annotations

from hotswap_proxy.errors import Detail, RateLimited, Unauthorized, ValidationFailed
from hotswap_proxy.store import AuditEntry
from hotswap_proxy.store.times import rfc3339
from hotswap_proxy.store.users import User

from ..models import Login, PasswordChange
from ..routing import EVERYONE, PUBLIC, Answer, Call, Endpoint


async def login(call: Call) -> Answer:
    given: Login = call.body
    user = await _check(call, given.username, given.password, "user.login")
    if user is None:
        raise Unauthorized("the user name or the password is wrong")
    await _remember(call, "user.login", given.username, user.user_id)
    await call.services.tokens.load(call.context.store)
    token, expires = call.services.tokens.issue(user)
    return Answer(
        {
            "token": token,
            "expiresAt": rfc3339(expires),
            "user": {"username": user.username, "role": user.role},
        }
    )


async def _check(call: Call, username: str, password: str, action: str) -> User | None:
    """The user with this password, within the limits; failures are in the audit log, but bounded."""
    logins, client = call.services.logins, call.author.client
    user_id = call.user.user_id if call.user else None
    try:
        logins.count(username, client)
    except RateLimited:
        if logins.worth_telling(username, limited=True):
            await _remember(call, f"{action}_limited", username, user_id)
        raise
    user = await call.context.store.users.authenticate(username, password)
    if user is not None:
        logins.succeeded(username, client)
    elif logins.worth_telling(username, limited=False):
        await _remember(call, f"{action}_failed", username, user_id)
    return user


async def _remember(call: Call, action: str, username: str, user_id: str | None) -> None:
    author = call.author._replace(username=username, user_id=user_id)
    await call.services.trail.remember(author, AuditEntry(action, user_id, username))


async def get_me(call: Call) -> Answer:
    assert call.user is not None
    return Answer(call.user.answer())


async def change_password(call: Call) -> Answer:
    assert call.user is not None
    given: PasswordChange = call.body
    if await _check(call, call.user.username, given.current_password, "user.password_change") is None:
        wrong = Detail("currentPassword", "password", "this is not the current password")
        raise ValidationFailed.of([wrong])
    await call.context.store.users.update(call.user.user_id, {}, call.author, password=given.new_password)
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/authentication/login",
        handler=login,
        roles=PUBLIC,
        summary="Exchange user name and password for a token",
        answers={200: "LoggedIn"},
        errors={401: "The user name or the password is wrong.", 429: "Too many attempts."},
        body=Login,
        example={"username": "admin", "password": "correct horse battery staple"},
    ),
    Endpoint(
        method="GET",
        path="/api/v1/authentication/me",
        handler=get_me,
        roles=EVERYONE,
        summary="The user of the token",
        answers={200: "User"},
    ),
    Endpoint(
        method="PUT",
        path="/api/v1/authentication/password",
        handler=change_password,
        roles=EVERYONE,
        summary="Change one's own password; all tokens given before end",
        answers={204: ""},
        errors={429: "Too many attempts."},
        body=PasswordChange,
        example={"currentPassword": "correct horse battery staple", "newPassword": "staple battery horse"},
    ),
)
