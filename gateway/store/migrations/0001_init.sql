-- The durable store: accounts, keys, events and everything that is summed from them.
-- Instants and spans are microseconds (UTC), amounts are integers in the meter's smallest
-- unit. STRICT refuses a float in an integer column, so no float can reach a balance.

-- One row: which journal this store belongs to and how far it has been applied.
CREATE TABLE meta (
    one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    journal_id  TEXT    NOT NULL,
    applied_seq INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id         TEXT    NOT NULL PRIMARY KEY,
    plan       TEXT    NOT NULL,
    anchor_us  INTEGER NOT NULL,
    title      TEXT    NOT NULL,
    disabled   INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- routes and networks: a JSON array of texts, NULL means all.
CREATE TABLE keys (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    id         TEXT    NOT NULL UNIQUE,
    account    TEXT    NOT NULL,
    user       TEXT    NOT NULL,
    project    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    hint       TEXT    NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER,
    routes     TEXT,
    networks   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_account ON keys (account, created_us);

CREATE TABLE topups (
    id        TEXT    NOT NULL PRIMARY KEY,
    account   TEXT    NOT NULL,
    meter     TEXT    NOT NULL,
    period_us INTEGER NOT NULL,
    amount    INTEGER NOT NULL,
    reason    TEXT    NOT NULL,
    actor     TEXT    NOT NULL,
    time_us   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX topups_by_account ON topups (account, meter, period_us);

-- The texts that very many events share, each combination once.
CREATE TABLE labels (
    id        INTEGER NOT NULL PRIMARY KEY,
    account   TEXT    NOT NULL,
    user      TEXT    NOT NULL,
    project   TEXT    NOT NULL,
    key_id    TEXT    NOT NULL,
    caller    TEXT    NOT NULL,
    service   TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    route     TEXT    NOT NULL,
    method    TEXT    NOT NULL,
    book      TEXT    NOT NULL,
    UNIQUE (account, user, project, key_id, caller, service, operation, route, method, book)
) STRICT;

-- One row per metered request; seq is its close record in the journal. request_id is ''
-- where it equals the id. The account stands here too, for the index.
CREATE TABLE events (
    seq         INTEGER NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    label       INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    time_us     INTEGER NOT NULL,
    source      TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    bytes_in    INTEGER NOT NULL,
    bytes_out   INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    upstream_us INTEGER NOT NULL,
    request_id  TEXT    NOT NULL
) STRICT;
-- The only index on events: newest first within an account (seq is its hidden last column).
CREATE INDEX events_by_account ON events (account, time_us);

-- What an event cost, one row per meter; none for a free one.
CREATE TABLE charges (
    seq       INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    meter     TEXT    NOT NULL,
    amount    INTEGER NOT NULL,
    period_us INTEGER NOT NULL,
    PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;

-- Sums of events and charges by hour of admission. `events` counts charges of the meter;
-- `requests` counts each request once, in the row of its first charge, or with meter ''
-- and period 0 when it was free.
CREATE TABLE rollups (
    label     INTEGER NOT NULL,
    meter     TEXT    NOT NULL,
    period_us INTEGER NOT NULL,
    hour_us   INTEGER NOT NULL,
    outcome   TEXT    NOT NULL,
    requests  INTEGER NOT NULL,
    events    INTEGER NOT NULL,
    amount    INTEGER NOT NULL,
    PRIMARY KEY (label, meter, period_us, hour_us, outcome)
) STRICT, WITHOUT ROWID;

-- Refused requests, counted only: a flood of them must not fill the disk.
CREATE TABLE refusals (
    account   TEXT    NOT NULL,
    hour_us   INTEGER NOT NULL,
    route     TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    count     INTEGER NOT NULL,
    PRIMARY KEY (account, hour_us, route, operation, reason)
) STRICT, WITHOUT ROWID;

-- Every request by hour, those that became events and those refused.
CREATE VIEW requests AS
    SELECT l.account, r.hour_us, l.route, l.operation, r.outcome, 0 AS refused,
           sum(r.requests) AS count
    FROM rollups r JOIN labels l ON l.id = r.label GROUP BY 1, 2, 3, 4, 5
    UNION ALL
    SELECT account, hour_us, route, operation, reason, 1, count FROM refusals;

-- Events with their labels, for people with an SQL prompt.
CREATE VIEW activity AS
    SELECT e.seq, e.id, e.time_us, l.account, l.user, l.project, l.key_id, l.caller, e.source,
           l.service, l.operation, l.route, l.method, e.path, e.status, e.outcome, e.bytes_in,
           e.bytes_out, e.duration_us, e.upstream_us,
           CASE e.request_id WHEN '' THEN e.id ELSE e.request_id END AS request_id, l.book
    FROM events e JOIN labels l ON l.id = e.label;

-- What admission decides on: how much of a period's allowance is gone.
CREATE TABLE balances (
    account   TEXT    NOT NULL,
    meter     TEXT    NOT NULL,
    period_us INTEGER NOT NULL,
    used      INTEGER NOT NULL,
    PRIMARY KEY (account, meter, period_us)
) STRICT, WITHOUT ROWID;

-- Rate limits as they stood at the last shutdown, so that a restart is no gift.
CREATE TABLE limit_state (
    limit_id   TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    a          INTEGER NOT NULL,
    b          INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    PRIMARY KEY (limit_id, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    id      INTEGER NOT NULL PRIMARY KEY,
    time_us INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL
) STRICT;
