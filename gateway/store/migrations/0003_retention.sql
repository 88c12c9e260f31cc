-- Events that were removed after their time: what they added up to stays.

-- One row for each time that a month's events were removed: late ones make a further part.
-- Until `is_done`, what the month still has with seq up to top_seq is in the archive already.
CREATE TABLE removals (
    month_us   INTEGER NOT NULL,
    part       INTEGER NOT NULL,
    archive    TEXT    NOT NULL,
    top_seq    INTEGER NOT NULL,
    events     INTEGER NOT NULL,
    charges    INTEGER NOT NULL,
    removed_us INTEGER NOT NULL,
    is_done    INTEGER NOT NULL CHECK (is_done IN (0, 1)),
    PRIMARY KEY (month_us, part)
) STRICT, WITHOUT ROWID;

-- Their sums. from_us: an hour's begin, or within the hour that of a period or of other terms,
-- and with a time zone a quarter's, so that no bill is cut by a row. `requests` and `events` as
-- in rollups; they stand in the row of the lot that paid first.
CREATE TABLE removed_sums (
    label     INTEGER NOT NULL,
    meter     TEXT    NOT NULL,
    period_us INTEGER NOT NULL,
    from_us   INTEGER NOT NULL,
    outcome   TEXT    NOT NULL,
    lot       TEXT    NOT NULL,
    requests  INTEGER NOT NULL,
    events    INTEGER NOT NULL,
    amount    INTEGER NOT NULL,
    PRIMARY KEY (label, meter, period_us, from_us, outcome, lot)
) STRICT, WITHOUT ROWID;
