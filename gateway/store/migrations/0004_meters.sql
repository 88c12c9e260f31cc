-- In which decimals each meter's figures are kept: another number would scale all of them.
CREATE TABLE meters (
    name     TEXT    NOT NULL PRIMARY KEY,
    decimals INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
