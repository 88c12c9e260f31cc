"""How a raw case is judged: the rules, one function each.

`problems` lists every rule that an outcome breaks, as sentences. The safety
rules hold for every case, whatever its source expects; the verdict rules add
what `expect` says, except where tests/hostile/deviations.py gives a reason.
"""

from __future__ import annotations

from tests.hostile.cases import Outcome, read_as_meant
from tests.hostile.deviations import FORWARDED_NORMALISED, REFUSED_BY_POLICY

# Refusals after which nothing more on the connection can be understood.
_FATAL = frozenset({400, 408, 417, 431, 501, 505})


def safety_problems(outcome: Outcome) -> list[str]:
    """Rules of every case in front of the recorder."""
    found = connection_problems(outcome)
    whole = [r for r in outcome.recorded if r.complete]
    if len(outcome.relayed) != len(whole):
        found.append(f"{len(whole)} whole requests forwarded, {len(outcome.relayed)} relayed")
    if len(outcome.charged) != len(whole):
        found.append(f"{len(whole)} whole requests forwarded, {len(outcome.charged)} charged")
    if len(outcome.events) < len(outcome.recorded):
        found.append("a request reached the backend without an event")
    found += _foreign_bytes(outcome)
    if outcome.case.id in FORWARDED_NORMALISED:
        return found
    meant = iter(read_as_meant(outcome.case.raw + outcome.case.after))
    for request in whole:
        here = (request.method, request.target, request.body)
        if not any((m.method, m.target, m.body) == here for m in meant):
            found.append(f"the backend got {here}, which the client did not mean")
    return found


def connection_problems(outcome: Outcome) -> list[str]:
    """Rules of the client's connection, whatever stands behind the gateway."""
    found = []
    if outcome.unreadable:
        found.append(f"an answer that is not HTTP: {outcome.unreadable[:300]}")
    if outcome.hung:
        found.append("the connection hangs")
    if outcome.left:
        found.append(f"bytes after the last answer: {outcome.left[:100]!r}")
    if outcome.answers and not outcome.answers[-1].complete:
        found.append("the last answer is cut off")
    for index, answer in enumerate(outcome.answers):
        if answer.is_refusal and answer.status in _FATAL and index + 1 < len(outcome.answers):
            found.append(f"answers after a {answer.status} of ours")
        stays_open = (answer.get("connection") or "").lower() != "close"
        if answer.is_refusal and answer.status in _FATAL and stays_open:
            found.append(f"a {answer.status} of ours without 'Connection: close'")
        if answer.is_refusal and answer.status == 500:
            found.append("an internal error")
    return found


def verdict_problems(outcome: Outcome) -> list[str]:
    """What the case's `expect` asks for."""
    case = outcome.case
    if case.must_be_refused:
        return _refusal_problems(outcome)
    if case.must_be_accepted and case.id not in REFUSED_BY_POLICY:
        return _acceptance_problems(outcome)
    if case.must_be_accepted and outcome.forwarded:
        return [f"forwarded, although: {REFUSED_BY_POLICY[case.id]}"]
    return []


def nothing_passed_problems(outcome: Outcome) -> list[str]:
    """Rules where every request needs a key and none has one."""
    found = connection_problems(outcome)
    if outcome.recorded:
        found.append("something reached the backend without a key")
    if outcome.relayed:
        found.append("an answer that is not ours")
    if outcome.charged:
        found.append("something was charged")
    return found


def _refusal_problems(outcome: Outcome) -> list[str]:
    """4xx, 5xx or close; nothing upstream, nothing charged."""
    found = []
    if outcome.forwarded:
        found.append("a request that must be refused reached the backend")
    if outcome.charged:
        found.append("a request that must be refused was charged")
    if any(r.target.startswith("/after-") for r in outcome.recorded):
        found.append("the connection was used on after a request that must be refused")
    if any(not r.complete for r in outcome.recorded):
        found.append("a part of a request that must be refused reached the backend")
    return found


def _acceptance_problems(outcome: Outcome) -> list[str]:
    """Forwarded and answered, unless its end never came."""
    if not read_as_meant(outcome.case.raw):
        return [f"refused with {a.status}" for a in outcome.refusals[:1] if a.status != 408]
    return [] if outcome.forwarded else ["was not forwarded"]


def _foreign_bytes(outcome: Outcome) -> list[str]:
    """A trace of another case's plain GET in this one's requests."""
    own = f"/after-{outcome.case.number} ".encode()
    for request in outcome.recorded:
        text = request.target.encode("latin-1") + b" " + request.body
        if b"/after-" in text.replace(own, b""):
            return ["bytes of another case"]
    return []
