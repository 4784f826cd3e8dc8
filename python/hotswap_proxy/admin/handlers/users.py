"""Users."""

from __future__ import annotations

from hotswap_proxy.errors import NotFound, ValidationFailed
from hotswap_proxy.store import users as user_table

from .. import answers
from ..models import Page, UserCreate, UserUpdate
from ..routing import ADMIN, Answer, Call, Endpoint

PATH = "/api/v1/users"


async def list_users(call: Call) -> Answer:
    found, total = await call.context.store.read(user_table.page, call.query.limit, call.query.offset)
    return answers.page("users", [user.answer() for user in found], total, call.query)


async def get_user(call: Call) -> Answer:
    user = await call.context.store.read(user_table.get, call.path["id"])
    if user is None:
        raise NotFound(f"no user {call.path['id']}")
    return Answer(user.answer())


async def create_user(call: Call) -> Answer:
    given: UserCreate = call.body
    users = call.context.store.users
    user = await users.create(given.username, given.password, given.role, call.author)
    return Answer(user.answer(), 201)


async def update_user(call: Call) -> Answer:
    given: UserUpdate = call.body
    values = given.model_dump(exclude_none=True, exclude={"password"})
    if not values and given.password is None:
        raise ValidationFailed("give role, isEnabled or password")
    users = call.context.store.users
    user = await users.update(call.path["id"], values, call.author, password=given.password)
    return Answer(user.answer())


async def delete_user(call: Call) -> Answer:
    await call.context.store.users.delete(call.path["id"], call.author)
    return Answer(status=204)


ENDPOINTS = (
    Endpoint(method="GET", path=PATH, handler=list_users, roles=ADMIN, summary="List users", query=Page),
    Endpoint(
        method="POST", path=PATH, handler=create_user, roles=ADMIN, summary="Add a user", body=UserCreate
    ),
    Endpoint(method="GET", path=f"{PATH}/{{id}}", handler=get_user, roles=ADMIN, summary="One user"),
    Endpoint(
        method="PUT",
        path=f"{PATH}/{{id}}",
        handler=update_user,
        roles=ADMIN,
        summary="Change role, password or enabled; the user's tokens end",
        body=UserUpdate,
    ),
    Endpoint(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handler=delete_user,
        roles=ADMIN,
        summary="Remove a user; not the last administrator",
    ),
)
