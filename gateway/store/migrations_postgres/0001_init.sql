-- The durable store in PostgreSQL: what migrations/ makes in SQLite, for several writers.
-- Instants and spans are microseconds (UTC), amounts are integers in the meter's smallest
-- unit. Texts are compared byte by byte, as in SQLite.

-- Each gateway has a journal of its own and writes its records in sequence. Rows that came
-- from a record carry (no - 1) * 2^44 + the record's sequence in that journal.
CREATE TABLE journals (
    no          BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal_id  TEXT   COLLATE "C" NOT NULL UNIQUE,
    applied_seq BIGINT NOT NULL
);
-- The newest journal, as SQLite's table of this name.
CREATE VIEW meta AS
    SELECT journal_id, (no - 1) * 17592186044416 + applied_seq AS applied_seq
    FROM journals ORDER BY no DESC LIMIT 1;

CREATE TABLE accounts (
    id         TEXT     COLLATE "C" NOT NULL PRIMARY KEY,
    plan       TEXT     COLLATE "C" NOT NULL,
    anchor_us  BIGINT   NOT NULL,
    title      TEXT     COLLATE "C" NOT NULL,
    disabled   SMALLINT NOT NULL CHECK (disabled IN (0, 1)),
    created_us BIGINT   NOT NULL,
    terms      TEXT     COLLATE "C" NOT NULL DEFAULT '{}'
);

CREATE TABLE keys (
    digest     BYTEA  NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    id         TEXT   COLLATE "C" NOT NULL UNIQUE,
    account    TEXT   COLLATE "C" NOT NULL,
    "user"     TEXT   COLLATE "C" NOT NULL,
    project    TEXT   COLLATE "C" NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    hint       TEXT   COLLATE "C" NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    revoked_us BIGINT,
    routes     TEXT   COLLATE "C",
    networks   TEXT   COLLATE "C"
);
CREATE INDEX keys_by_account ON keys (account, created_us);

CREATE TABLE labels (
    id        BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account   TEXT   COLLATE "C" NOT NULL,
    "user"    TEXT   COLLATE "C" NOT NULL,
    project   TEXT   COLLATE "C" NOT NULL,
    key_id    TEXT   COLLATE "C" NOT NULL,
    caller    TEXT   COLLATE "C" NOT NULL,
    service   TEXT   COLLATE "C" NOT NULL,
    operation TEXT   COLLATE "C" NOT NULL,
    route     TEXT   COLLATE "C" NOT NULL,
    method    TEXT   COLLATE "C" NOT NULL,
    book      TEXT   COLLATE "C" NOT NULL,
    UNIQUE (account, "user", project, key_id, caller, service, operation, route, method, book)
);

-- One partition for each calendar month of UTC; the writer makes them when they are needed.
CREATE TABLE events (
    seq         BIGINT   NOT NULL,
    account     TEXT     COLLATE "C" NOT NULL,
    label       BIGINT   NOT NULL,
    id          TEXT     COLLATE "C" NOT NULL,
    time_us     BIGINT   NOT NULL,
    source      TEXT     COLLATE "C" NOT NULL,
    path        TEXT     COLLATE "C" NOT NULL,
    status      INTEGER  NOT NULL,
    outcome     TEXT     COLLATE "C" NOT NULL,
    bytes_in    BIGINT   NOT NULL,
    bytes_out   BIGINT   NOT NULL,
    duration_us BIGINT   NOT NULL,
    upstream_us BIGINT   NOT NULL,
    request_id  TEXT     COLLATE "C" NOT NULL,
    PRIMARY KEY (seq, time_us)
) PARTITION BY RANGE (time_us);
CREATE INDEX events_by_account ON events (account, time_us, seq);

-- `time_us` is the event's: charges live and leave with their events.
CREATE TABLE charges (
    seq       BIGINT  NOT NULL,
    n         INTEGER NOT NULL,
    meter     TEXT    COLLATE "C" NOT NULL,
    amount    BIGINT  NOT NULL,
    period_us BIGINT  NOT NULL,
    lot       TEXT    COLLATE "C" NOT NULL DEFAULT '',
    time_us   BIGINT  NOT NULL,
    PRIMARY KEY (seq, n, time_us)
) PARTITION BY RANGE (time_us);

CREATE TABLE rollups (
    label     BIGINT NOT NULL,
    meter     TEXT   COLLATE "C" NOT NULL,
    period_us BIGINT NOT NULL,
    hour_us   BIGINT NOT NULL,
    outcome   TEXT   COLLATE "C" NOT NULL,
    requests  BIGINT NOT NULL,
    events    BIGINT NOT NULL,
    amount    BIGINT NOT NULL,
    PRIMARY KEY (label, meter, period_us, hour_us, outcome)
);

CREATE TABLE refusals (
    account   TEXT   COLLATE "C" NOT NULL,
    hour_us   BIGINT NOT NULL,
    route     TEXT   COLLATE "C" NOT NULL,
    operation TEXT   COLLATE "C" NOT NULL,
    reason    TEXT   COLLATE "C" NOT NULL,
    count     BIGINT NOT NULL,
    PRIMARY KEY (account, hour_us, route, operation, reason)
);

CREATE VIEW requests AS
    SELECT l.account, r.hour_us, l.route, l.operation, r.outcome, 0 AS refused,
           sum(r.requests) AS count
    FROM rollups r JOIN labels l ON l.id = r.label GROUP BY 1, 2, 3, 4, 5
    UNION ALL
    SELECT account, hour_us, route, operation, reason, 1, count FROM refusals;

CREATE VIEW activity AS
    SELECT e.seq, e.id, e.time_us, l.account, l."user", l.project, l.key_id, l.caller, e.source,
           l.service, l.operation, l.route, l.method, e.path, e.status, e.outcome, e.bytes_in,
           e.bytes_out, e.duration_us, e.upstream_us,
           CASE e.request_id WHEN '' THEN e.id ELSE e.request_id END AS request_id, l.book
    FROM events e JOIN labels l ON l.id = e.label;

CREATE TABLE balances (
    account   TEXT   COLLATE "C" NOT NULL,
    meter     TEXT   COLLATE "C" NOT NULL,
    period_us BIGINT NOT NULL,
    lot       TEXT   COLLATE "C" NOT NULL,
    used      BIGINT NOT NULL,
    PRIMARY KEY (account, meter, period_us, lot)
);
CREATE INDEX balances_by_lot ON balances (account, lot)
    WHERE lot != '' AND substr(lot, 1, 1) != '@';

CREATE TABLE ledger (
    id          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    account     TEXT   COLLATE "C" NOT NULL,
    meter       TEXT   COLLATE "C" NOT NULL,
    kind        TEXT   COLLATE "C" NOT NULL,
    lot         TEXT   COLLATE "C" NOT NULL,
    period_us   BIGINT NOT NULL,
    amount      BIGINT NOT NULL,
    starts_us   BIGINT NOT NULL,
    expires_us  BIGINT,
    priority    BIGINT NOT NULL,
    every       TEXT   COLLATE "C" NOT NULL,
    price_micro BIGINT NOT NULL,
    reason      TEXT   COLLATE "C" NOT NULL,
    actor       TEXT   COLLATE "C" NOT NULL,
    time_us     BIGINT NOT NULL
);
CREATE INDEX ledger_by_account ON ledger (account, time_us, id);
CREATE INDEX ledger_by_lot ON ledger (account, lot);

CREATE TABLE members (
    account TEXT COLLATE "C" NOT NULL,
    "user"  TEXT COLLATE "C" NOT NULL,
    role    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, "user")
);

CREATE TABLE account_versions (
    account  TEXT   COLLATE "C" NOT NULL,
    from_us  BIGINT NOT NULL,
    document TEXT   COLLATE "C" NOT NULL,
    PRIMARY KEY (account, from_us)
);

CREATE TABLE plans_versions (
    from_us  BIGINT NOT NULL PRIMARY KEY,
    book     TEXT   COLLATE "C" NOT NULL,
    document TEXT   COLLATE "C" NOT NULL
);

CREATE TABLE limit_state (
    limit_id   TEXT   COLLATE "C" NOT NULL,
    subject    TEXT   COLLATE "C" NOT NULL,
    a          BIGINT NOT NULL,
    b          BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    PRIMARY KEY (limit_id, subject)
);

CREATE TABLE audit_log (
    id      BIGINT NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    time_us BIGINT NOT NULL,
    actor   TEXT   COLLATE "C" NOT NULL,
    action  TEXT   COLLATE "C" NOT NULL,
    subject TEXT   COLLATE "C" NOT NULL,
    detail  TEXT   COLLATE "C" NOT NULL
);
