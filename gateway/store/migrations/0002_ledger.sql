-- Plans with history, lots and members. Amounts and instants as in 0001.

-- Everything of an account that is not one of the first columns, as a JSON object.
ALTER TABLE accounts ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';

-- Units given or taken back by somebody, for a reason. Never changed, never deleted.
-- lot '' is the own lot of the period that begins at period_us.
CREATE TABLE ledger (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    meter       TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    lot         TEXT    NOT NULL,
    period_us   INTEGER NOT NULL,
    amount      INTEGER NOT NULL,
    starts_us   INTEGER NOT NULL,
    expires_us  INTEGER,
    priority    INTEGER NOT NULL,
    every       TEXT    NOT NULL,
    price_micro INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    actor       TEXT    NOT NULL,
    time_us     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_by_account ON ledger (account, time_us, id);
CREATE INDEX ledger_by_lot ON ledger (account, lot);
INSERT INTO ledger
    SELECT id, account, meter, 'topup', '', period_us, amount, period_us, NULL, 0, '', 0,
           reason, actor, time_us FROM topups;
DROP TABLE topups;

CREATE TABLE members (
    account TEXT NOT NULL,
    user    TEXT NOT NULL,
    role    TEXT NOT NULL,
    PRIMARY KEY (account, user)
) STRICT, WITHOUT ROWID;

-- An account as it was from an instant on: a JSON object of all its fields.
CREATE TABLE account_versions (
    account  TEXT    NOT NULL,
    from_us  INTEGER NOT NULL,
    document TEXT    NOT NULL,
    PRIMARY KEY (account, from_us)
) STRICT, WITHOUT ROWID;
INSERT INTO account_versions
    SELECT id, created_us, json_object('id', id, 'plan', plan, 'anchor_us', anchor_us,
           'title', title, 'disabled', json(iif(disabled, 'true', 'false'))) FROM accounts;

-- The plans of a configuration as they were from an instant on: JSON, by name.
CREATE TABLE plans_versions (
    from_us  INTEGER NOT NULL PRIMARY KEY,
    book     TEXT    NOT NULL,
    document TEXT    NOT NULL
) STRICT;

-- Which lot paid: '' the period's own, '@day' a further allowance that counts too.
ALTER TABLE charges ADD COLUMN lot TEXT NOT NULL DEFAULT '';

CREATE TABLE balances_by_lot (
    account   TEXT    NOT NULL,
    meter     TEXT    NOT NULL,
    period_us INTEGER NOT NULL,
    lot       TEXT    NOT NULL,
    used      INTEGER NOT NULL,
    PRIMARY KEY (account, meter, period_us, lot)
) STRICT, WITHOUT ROWID;
INSERT INTO balances_by_lot SELECT account, meter, period_us, '', used FROM balances WHERE used != 0;
DROP TABLE balances;
ALTER TABLE balances_by_lot RENAME TO balances;
-- Lots that live beside periods: how much of one is gone, over all periods.
CREATE INDEX balances_by_lot ON balances (account, lot)
    WHERE lot != '' AND substr(lot, 1, 1) != '@';
