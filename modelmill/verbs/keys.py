"""The verbs of `keys`: who may use the service, and who changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelmill.verbs.options import Json
from modelmill.verbs.say import print_json, tell

if TYPE_CHECKING:
    from modelmill.serve.access.keys import Key, Keys

keys = typer.Typer(
    help="Keys and tenants of the service: create, list, change, rotate, revoke, delete, tenant, tenants, audit.",
    rich_markup_mode=None,
)

Id = Annotated[str, typer.Argument(help="The key's id: what stands after mm_.", metavar="ID")]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A model's name, or a pattern such as 'acme-*'.", metavar="NAME")
]
Rate = Annotated[str, typer.Option("--quota", help="Requests in a time: 100/s, 30/m or 500/h.", metavar="N/s")]
Burst = Annotated[int, typer.Option(help="Requests at once; a tenth of a second's by default.", min=0)]
Rows = Annotated[str, typer.Option(help="Rows a day: 1e6/day.", metavar="N/day")]


@keys.command("create")
def keys_create(
    label: Annotated[str, typer.Argument(help="What the key is for.", metavar="NAME")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="infer (by default), read, watch, operate or admin; several times.", metavar="ROLE"),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "default",
    model: Models = None,
    expires: Annotated[str, typer.Option(help="When it ends: 30d, 12h, or a date. Never by default.")] = "",
    quota: Rate = "",
    burst: Burst = 0,
    rows: Rows = "",
    json: Json = False,
) -> None:
    """Make a key, and show it: now, and never again."""
    from modelmill import api
    from modelmill.serve.access.moments import moment_ms

    shelf = api.keys()
    expires_ms = moment_ms("--expires", expires, shelf.now_ms) if expires else 0
    secret, key = shelf.create(
        label, tuple(role or ("infer",)), tenant, tuple(model or ()), _quota(quota, burst, rows), expires_ms
    )
    if json:
        print_json({"key": secret, **key.shown(shelf.now_ms)})
    else:
        print(secret)
        _aside("It is kept nowhere: note it now. Send it as `Authorization: Bearer KEY`.")
    _warn(key, shelf)


@keys.command("list")
def keys_list(json: Json = False) -> None:
    """List every key, without its secret."""
    from modelmill import api
    from modelmill.listing import print_keys

    shelf = api.keys()
    found = [key.shown(shelf.now_ms) for key in shelf.listed()]
    if json:
        print_json(found)
    else:
        print_keys(found)


@keys.command("change")
def keys_change(
    id: Id,
    role: Annotated[list[str] | None, typer.Option(help="All that it is to be good for.", metavar="ROLE")] = None,
    model: Models = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="The key is narrowed to no models.")] = False,
    expires: Annotated[str, typer.Option(help="When it ends: 30d, 12h, or a date.")] = "",
    no_expires: Annotated[bool, typer.Option("--no-expires", help="The key never ends.")] = False,
    quota: Rate = "",
    burst: Burst = 0,
    rows: Rows = "",
    no_quota: Annotated[bool, typer.Option("--no-quota", help="The key may ask as much as it likes.")] = False,
    json: Json = False,
) -> None:
    """Change what a key is good for, until when, and how much; its secret stays."""
    from modelmill import api
    from modelmill.errors import OutOfBounds
    from modelmill.listing import print_keys
    from modelmill.serve.access.moments import moment_ms

    shelf = api.keys()
    _either("--expires", bool(expires), "--no-expires", no_expires)
    ends = moment_ms("--expires", expires, shelf.now_ms) if expires else 0 if no_expires else None
    given = (tuple(role) if role else None, _models(model, no_models), _limits(quota, burst, rows, no_quota), ends)
    if all(one is None for one in given):
        raise OutOfBounds("keys change", "is told nothing to change", "Such as --quota 100/s or --role read.")
    key = shelf.change(id, *given)
    shown = key.shown(shelf.now_ms)
    if json:
        print_json(shown)
    else:
        print_keys([shown])
    _warn(key, shelf)


@keys.command("rotate")
def keys_rotate(
    id: Id,
    grace: Annotated[str, typer.Option(help="How long the old secret still opens: 24h, 0s.")] = "24h",
    json: Json = False,
) -> None:
    """Give a key a new secret, and show it; the old one still opens for a while."""
    from modelmill import api
    from modelmill.serve.access.moments import span_s

    shelf = api.keys()
    secret, key = shelf.rotate(id, span_s("--grace", grace))
    if json:
        print_json({"key": secret, **key.shown(shelf.now_ms)})
    else:
        print(secret)
        _aside(f"The old secret opens for another {grace}.")


@keys.command("revoke")
def keys_revoke(id: Id, json: Json = False) -> None:
    """Let a key open nothing any more; a running service follows within a second."""
    from modelmill import api

    shelf = api.keys()
    key = shelf.revoke(id)
    tell(key.shown(shelf.now_ms), json, f"key {key.id} ({key.label}) is revoked")


@keys.command("delete")
def keys_delete(id: Id, json: Json = False) -> None:
    """Forget a key that was revoked or has expired; without any key, loopback is open again."""
    from modelmill import api

    key = api.keys().delete(id)
    tell({"deleted": key.id}, json, f"key {key.id} ({key.label}) is deleted")


@keys.command("tenant")
def keys_tenant(
    name: Annotated[str, typer.Argument(help="The tenant's name.")],
    tier: Annotated[str, typer.Option(help="basic, standard or advanced.")] = "",
    model: Models = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="The tenant has no models of its own.")] = False,
    quota: Rate = "",
    burst: Burst = 0,
    rows: Rows = "",
    no_quota: Annotated[bool, typer.Option("--no-quota", help="The tenant may ask as much as it likes.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Forget it: it has neither keys nor models.")] = False,
    json: Json = False,
) -> None:
    """Show a tenant; make it, or change it, where something is given; or forget it.

    A model that a tenant names with --model exists for no other tenant.
    """
    from modelmill import api
    from modelmill.errors import OutOfBounds
    from modelmill.listing import print_tenants

    given = (tier or None, _models(model, no_models), _limits(quota, burst, rows, no_quota))
    if delete:
        if any(one is not None for one in given):
            raise OutOfBounds("--delete", "is given with what is to be changed", "Give it alone.")
        gone = api.keys().delete_tenant(name)
        tell({"deleted": gone.name}, json, f"tenant {gone.name} is deleted")
        return
    shelf = api.keys()
    found = shelf.tenant(name, *given)
    if json:
        print_json(_tenant(found))
    else:
        print_tenants([_tenant(found)])
    if model:
        _warn_others(name, shelf)


@keys.command("tenants")
def keys_tenants(json: Json = False) -> None:
    """List every tenant with its tier."""
    from modelmill import api
    from modelmill.listing import print_tenants

    found = [_tenant(tenant) for tenant in api.keys().tenants()]
    if json:
        print_json(found)
    else:
        print_tenants(found)


@keys.command("audit")
def keys_audit(
    verify: Annotated[bool, typer.Option("--verify", help="Check that no row was altered or taken out.")] = False,
    head: Annotated[str, typer.Option(help="With --verify: a digest noted earlier.", metavar="DIGEST")] = "",
    since: Annotated[int, typer.Option(help="Rows after this number; the newest by default.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="How many rows.", min=1)] = 100,
    json: Json = False,
) -> None:
    """Show who changed what, when and from where; or check the log."""
    from modelmill import api
    from modelmill.errors import OutOfBounds, Tampered
    from modelmill.listing import print_deeds

    if head and not verify:
        raise OutOfBounds("--head", "is looked for by --verify alone", f"Write --verify --head {head[:80]}.")
    shelf = api.keys()
    if verify:
        problems, newest = shelf.verify(head)
        if problems:
            raise Tampered("audit", "; ".join(problems[:5]), "Compare it with a copy of the database.")
        tell({"problems": problems, "head": newest}, json, f"The log is whole. Its head is {newest or 'empty'}")
        return
    deeds = shelf.audit(since or None, limit)
    if json:
        print_json(deeds)
    else:
        print_deeds(deeds)


def _models(model: list[str] | None, no_models: bool) -> tuple[str, ...] | None:
    """The models that are given; none of them where that is said, and None where nothing is."""
    _either("--model", bool(model), "--no-models", no_models)
    return () if no_models else tuple(model) if model else None


def _limits(quota: str, burst: int, rows: str, no_quota: bool) -> Any:
    """The quota that is given; one without limits where that is said, and None where nothing is."""
    from modelmill.serve.access.quota import NONE

    given = bool(quota or burst or rows)
    _either("--quota, --burst or --rows", given, "--no-quota", no_quota)
    return NONE if no_quota else _quota(quota, burst, rows) if given else None


def _either(flag: str, given: bool, none: str, is_none: bool) -> None:
    """Refuse a thing that is both given and taken away."""
    from modelmill.errors import OutOfBounds

    if given and is_none:
        raise OutOfBounds(none, f"is given beside {flag}", "Give one of them.")


def _quota(quota: str, burst: int, rows: str) -> Any:
    from modelmill.errors import OutOfBounds
    from modelmill.serve.access.quota import Quota, requests_per_s, rows_per_day

    if burst and not quota:
        raise OutOfBounds("--burst", "is wanted with a rate", "Write --quota 100/s --burst 50.")
    return Quota(requests_per_s(quota) if quota else 0.0, burst, rows_per_day(rows) if rows else 0)


def _warn(key: Key, shelf: Keys) -> None:
    """Say which of the names that a key is narrowed to are of no use to it."""
    from modelmill.serve.access.unseen import unseen

    for pattern, owners in unseen(key, shelf.tenants()).items():
        _aside(
            f"--model {pattern}: is claimed by tenant {', '.join(owners)}, and so this key of tenant {key.tenant} sees "
            f"no model by it. Make a key of that tenant instead: --tenant {owners[0]}."
        )


def _warn_others(claimer: str, shelf: Keys) -> None:
    """Say which keys of other tenants are narrowed to names that a tenant claims now."""
    from modelmill.serve.access.unseen import unseen

    tenants = shelf.tenants()
    for key in shelf.listed():
        for pattern, owners in unseen(key, tenants).items():
            if claimer in owners and not key.revoked_ms:
                _aside(
                    f"key {key.id} ({key.label}) of tenant {key.tenant}: --model {pattern} is claimed now, and it sees "
                    f"no model by it. Narrow it to others: modelmill keys change {key.id} --model NAME."
                )


def _tenant(tenant: Any) -> dict[str, Any]:
    """A tenant as JSON has it, with the figures of its tier."""
    from dataclasses import asdict

    import msgspec

    from modelmill.tiers import tier_of

    told: dict[str, Any] = msgspec.to_builtins(tenant)
    return {**told, "limits": asdict(tier_of(tenant.tier))}


def _aside(text: str) -> None:
    """Say something beside the answer."""
    import sys

    print(text, file=sys.stderr)
