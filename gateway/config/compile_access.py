"""Credential sources, accounts and declared keys -> the book's records."""

from __future__ import annotations

from gateway.config.compile_plans import own_terms
from gateway.config.draft import Draft, Where
from gateway.config.environment import read_secret
from gateway.config.models_access import AccountModel, CookieModel, KeyModel, SourceModel
from gateway.config.models_plans import DOLLARS, dollars
from gateway.config.problems import Expected
from gateway.core.book import Account, CredentialSource, Identify, OperatorToken
from gateway.core.identity import KeyRecord

SECRET_BYTES_MIN = 16  # of an HMAC key: 128 bits


def compile_identify(draft: Draft) -> Identify:
    model = draft.config.identify
    path: Where = ("identify", "sources")
    sources = {}
    for index, entry in enumerate(model.sources):
        source = _source(draft, entry, (*path, index))
        if source is not None:
            sources[index] = source
    draft.each_once(
        "source", ((f"{s.kind} {s.name}", (*path, index)) for index, s in sources.items())
    )
    # Backends fold '-', '_' and '.' in header names: such twins are one header.
    draft.each_once(
        "header",
        (
            (name.lower().replace("_", "-").replace(".", "-"), ("identify", "forward", what))
            for what, name in model.forward.items()
        ),
    )
    return Identify(
        tuple(sources.values()),
        model.anonymous.account if model.anonymous is not None else None,
        dict(model.forward.items()),
        model.failures_per_minute,
    )


def _source(draft: Draft, model: SourceModel, path: Where) -> CredentialSource | None:
    given = [key for key in ("bearer", "header", "query", "cookie") if getattr(model, key)]
    if not given:
        draft.absent(path, "`bearer`, `header:`, `query:` or `cookie:`")
    if len(given) > 1:
        draft.expected((*path, given[1]), f"one source, `{given[0]}:` is another", "two entries")
    if model.cookie is not None:
        return _cookie(draft, model.cookie, (*path, "cookie"))
    if model.query is not None:
        return CredentialSource("query", model.query)
    if model.header is not None:
        return CredentialSource("header", model.header.lower())
    return CredentialSource("bearer") if model.bearer else None


def _cookie(draft: Draft, model: CookieModel, path: Where) -> CredentialSource:
    if model.account is None and model.verified_by == "backend":
        draft.absent(path, "`account:`", "nobody else says whose calls these are")
    secret = None
    if model.verified_by == "signature":
        secret = _secret(draft, model, path)
    else:
        for key in ("secret", "secret_file"):
            if draft.has(*path, key):
                mark = draft.key_at(*path, key)
                draft.problems.expected(mark, "no secret with verified_by: backend", f"`{key}:`")
    return CredentialSource("cookie", model.name, model.account, secret)


def _secret(draft: Draft, model: CookieModel, path: Where) -> bytes | None:
    """The HMAC key from its field or its file; None after a problem."""
    if (model.secret is None) == (model.secret_file is None):
        if model.secret is None:
            draft.absent(path, "`secret_file:` or `secret:`", "signatures need a key")
        else:
            draft.problems.expected(draft.key_at(*path, "secret"), "one secret", "two")
        return None
    key = "secret" if model.secret is not None else "secret_file"
    try:
        secret = (
            model.secret.encode()
            if model.secret is not None
            else read_secret(model.secret_file or "")
        )
    except Expected as exc:
        draft.refuse((*path, key), exc)
        return None
    if len(secret) < SECRET_BYTES_MIN:
        mark = draft.at(*path, key)
        wanted = f"a secret of at least {SECRET_BYTES_MIN} bytes"
        draft.problems.expected(mark, wanted, f"{len(secret)} bytes", "openssl rand -hex 32")
        return None
    return secret


def compile_accounts(draft: Draft) -> dict[str, Account]:
    config = draft.config
    accounts = {}
    for name, model in config.accounts.items():
        path: Where = ("accounts", name)
        plan = model.plan if model.plan is not None else config.default_plan
        if plan is None and not draft.has("default_plan"):
            draft.absent(path, "`plan:`", "there is no default_plan")
        accounts[name] = Account(
            name,
            plan or "",
            model.cycle_start,
            model.title or name,
            model.disabled,
            seats=model.seats,
            overage=None if model.overage is None else model.overage == "on",
            cap_micro=_cap_micro(draft, model, path),
            timezone=model.timezone,
            **own_terms(draft, name, model, plan),  # type: ignore[arg-type]
        )
    return accounts


def _cap_micro(draft: Draft, model: AccountModel, path: Where) -> int | None:
    if model.cap is None:
        return None
    micro = dollars(model.cap)
    if micro is None:
        draft.expected((*path, "cap"), DOLLARS)
    return micro


def compile_members(draft: Draft) -> dict[str, dict[str, str]]:
    """Declared members: roles by account and user."""
    return {
        name: dict(model.members) for name, model in draft.config.accounts.items() if model.members
    }


def compile_operators(draft: Draft) -> dict[bytes, OperatorToken]:
    """Operator tokens by SHA-256; names and hashes are unique."""
    models = draft.config.admin.tokens
    path: Where = ("admin", "tokens")
    draft.each_once("token name", ((m.name, (*path, i, "name")) for i, m in enumerate(models)))
    draft.each_once("hash", ((m.hash.hex(), (*path, i, "hash")) for i, m in enumerate(models)))
    return {model.hash: OperatorToken(model.name, model.role) for model in models}


def compile_keys(draft: Draft) -> dict[bytes, KeyRecord]:
    """Declared keys by SHA-256; ids and hashes are unique, names known."""
    models = draft.config.keys
    draft.each_once("key id", ((m.id, ("keys", i, "id")) for i, m in enumerate(models)))
    draft.each_once("hash", ((m.hash.hex(), ("keys", i, "hash")) for i, m in enumerate(models)))
    return {model.hash: _key(model) for model in models}


def _key(model: KeyModel) -> KeyRecord:
    return KeyRecord(
        id=model.id,
        digest=model.hash,
        account=model.account,
        user=model.user or "",
        project=model.project or "",
        name=model.name or "",
        expires_us=model.expires,
        routes=frozenset(model.routes) if model.routes is not None else None,
        networks=tuple(model.networks) if model.networks is not None else None,
        declared=True,
    )
