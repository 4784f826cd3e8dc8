"""Users."""

from __future__ import annotations

from hotswap_proxy.control.plan import Action, ObjectChange, Plan, diff
from hotswap_proxy.errors import Detail, NotFound, ValidationFailed
from hotswap_proxy.store import users as user_table
from hotswap_proxy.store.users import User

from .. import answers
from ..models import Page, UserCreate, UserUpdate, WriteQuery
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
    dry_run = call.query.dry_run
    users = call.context.store.users
    user = await users.create(given.username, given.password, given.role, call.author, dry_run=dry_run)
    return _rehearsed("added", user) if dry_run else Answer(user.answer(), 201)


async def update_user(call: Call) -> Answer:
    given: UserUpdate = call.body
    values = given.model_dump(exclude_none=True, exclude={"password"})
    if not values and given.password is None:
        raise ValidationFailed.of([Detail("", "nothing_given", "give role, isEnabled or password")])
    store, user_id, dry_run = call.context.store, call.path["id"], call.query.dry_run
    old = await store.read(user_table.get, user_id)
    user = await store.users.update(user_id, values, call.author, password=given.password, dry_run=dry_run)
    return _rehearsed("changed", user, old) if dry_run else Answer(user.answer())


async def delete_user(call: Call) -> Answer:
    user = await call.context.store.users.delete(call.path["id"], call.author, dry_run=call.query.dry_run)
    return _rehearsed("removed", user) if call.query.dry_run else Answer(status=204)


def _rehearsed(action: Action, user: User, old: User | None = None) -> Answer:
    """The answer of a dry run; of a password only that it would be another can be told, by ``updatedAt``."""
    fields = tuple(diff(old.answer(), user.answer())) if old else ()
    plan = Plan([ObjectChange("user", action, user.user_id, user.username, fields)])
    return Answer({"dryRun": True, **plan.answer()})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=PATH,
        handler=list_users,
        roles=ADMIN,
        summary="List users",
        answers={200: "UserPage"},
        query=Page,
    ),
    Endpoint(
        method="POST",
        path=PATH,
        handler=create_user,
        roles=ADMIN,
        summary="Add a user",
        answers={201: "User", 200: "Plan"},
        errors={409: "The name is taken."},
        query=WriteQuery,
        body=UserCreate,
        example={"username": "ann", "password": "correct horse battery staple", "role": "Operator"},
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/{{id}}",
        handler=get_user,
        roles=ADMIN,
        summary="One user",
        answers={200: "User"},
    ),
    Endpoint(
        method="PUT",
        path=f"{PATH}/{{id}}",
        handler=update_user,
        roles=ADMIN,
        summary="Change role, password or enabled; the user's tokens end",
        answers={200: "User | Plan"},
        errors={409: "This is the last enabled administrator."},
        query=WriteQuery,
        body=UserUpdate,
        example={"isEnabled": False},
    ),
    Endpoint(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        handler=delete_user,
        roles=ADMIN,
        summary="Remove a user; not the last administrator",
        answers={204: "", 200: "Plan"},
        errors={409: "This is the last enabled administrator."},
        query=WriteQuery,
    ),
)
