-- Events that were removed after their time: what migrations/0003_retention.sql makes in SQLite.

-- top_seq has a meaning in SQLite only: here a month goes at once.
CREATE TABLE removals (
    month_us   BIGINT   NOT NULL,
    part       INTEGER  NOT NULL,
    archive    TEXT     COLLATE "C" NOT NULL,
    top_seq    BIGINT   NOT NULL,
    events     BIGINT   NOT NULL,
    charges    BIGINT   NOT NULL,
    removed_us BIGINT   NOT NULL,
    is_done    SMALLINT NOT NULL CHECK (is_done IN (0, 1)),
    PRIMARY KEY (month_us, part)
);

CREATE TABLE removed_sums (
    label     BIGINT NOT NULL,
    meter     TEXT   COLLATE "C" NOT NULL,
    period_us BIGINT NOT NULL,
    from_us   BIGINT NOT NULL,
    outcome   TEXT   COLLATE "C" NOT NULL,
    lot       TEXT   COLLATE "C" NOT NULL,
    requests  BIGINT NOT NULL,
    events    BIGINT NOT NULL,
    amount    BIGINT NOT NULL,
    PRIMARY KEY (label, meter, period_us, from_us, outcome, lot)
);
