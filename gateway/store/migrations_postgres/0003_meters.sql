-- In which decimals each meter's figures are kept: migrations/0004_meters.sql in SQLite.
CREATE TABLE meters (
    name     TEXT     COLLATE "C" NOT NULL PRIMARY KEY,
    decimals SMALLINT NOT NULL
);
