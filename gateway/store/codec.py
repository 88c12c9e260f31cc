"""Accounts and plans as JSON documents, for the tables that keep their history.

Invariant: what is read equals what was written. A field that a document does
not have takes its default, so that old documents still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import orjson

from gateway.core.book import Account, Allowance, Bundle, OverageRate, Plan, SettableLimit
from gateway.core.limits import RateLimit
from gateway.core.periods import Period

_PAIRS = ("settings", "allowances", "limits")


def dump_account(account: Account, without: tuple[str, ...] = ()) -> str:
    """Fields that have their default are left out."""
    document = {
        field.name: getattr(account, field.name)
        for field in fields(account)
        if field.name not in without and getattr(account, field.name) != field.default
    }
    return orjson.dumps(document).decode()


def load_account(text: str, **columns: Any) -> Account:
    """From a document and the fields that are columns of their own."""
    document: dict[str, Any] = {**orjson.loads(text), **columns}
    for name in _PAIRS:
        if name in document:
            document[name] = tuple((key, value) for key, value in document[name])
    return Account(**document)


def dump_plans(plans: Mapping[str, Plan]) -> str:
    documents = {name: asdict(plan) for name, plan in plans.items()}
    return orjson.dumps(documents, default=bytes.decode).decode()


def load_plans(text: str) -> dict[str, Plan]:
    return {name: _plan(document) for name, document in orjson.loads(text).items()}


def _plan(document: dict[str, Any]) -> Plan:
    return Plan(
        allowances=tuple(map(_allowance, document.pop("allowances", ()))),
        limits=tuple(map(_limit, document.pop("limits", ()))),
        bundles=tuple(Bundle(**bundle) for bundle in document.pop("bundles", ())),
        settable=tuple(map(_settable, document.pop("settable", ()))),
        **document,
    )


def _allowance(document: dict[str, Any]) -> Allowance:
    period = Period(**document.pop("period"))
    rate = document.pop("overage", None)
    overage = None if rate is None else OverageRate(**rate)
    return Allowance(period=period, overage=overage, **document)


def _limit(document: dict[str, Any]) -> RateLimit:
    policy = document.pop("policy", "").encode()
    document.pop("label", None)  # it follows from the name
    return RateLimit(policy=policy, **document)


def _settable(document: dict[str, Any]) -> SettableLimit:
    return SettableLimit(_limit(document.pop("limit")), **document)
