"""API keys: their form, their check, and event ids."""

from __future__ import annotations

import os
import uuid

import pytest

from gateway.core.identity import digest_key, format_key, hint_of, is_well_formed
from gateway.proxy.ids import EventIds


def test_a_new_key_is_well_formed_and_a_changed_one_is_not() -> None:
    key = format_key("live", os.urandom(24))
    assert key.startswith("tg_live_") and is_well_formed(key)
    for at in range(8, len(key)):
        other = "A" if key[at] != "A" else "B"
        assert not is_well_formed(key[:at] + other + key[at + 1 :])
    assert not is_well_formed(key + "x") and not is_well_formed(key[:-1])
    assert not is_well_formed("tg_prod_" + key[8:])


def test_keys_hold_the_entropy() -> None:
    """Two keys that differ in one bit of 190 differ."""
    base = bytearray(24)
    keys = {format_key("test", bytes(base))}
    for bit in range(2, 192):
        base = bytearray(24)
        base[bit // 8] |= 0x80 >> bit % 8
        keys.add(format_key("test", bytes(base)))
    assert len(keys) == 191
    with pytest.raises(ValueError, match="24 random bytes"):
        format_key("live", b"short")


def test_digest_and_hint() -> None:
    key = format_key("live", bytes(24))
    assert len(digest_key(key.encode())) == 32
    assert hint_of(key) == f"tg_live_…{key[-4:]}"


def test_event_ids_are_ordered_uuid7s() -> None:
    ids = EventIds()
    made = [ids.next(1_700_000_000_000_000 + n // 100) for n in range(200_000)]
    assert len(set(made)) == len(made)
    by_time = [i[:13] for i in made]
    assert by_time == sorted(by_time)
    for text in made[::10_000]:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == text
