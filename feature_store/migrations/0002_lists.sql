-- Lists of features. Rows are only ever added: the newest row of a list, and of a feature in a list,
-- is in force; the older ones are its history. Rows of one change share its number.
CREATE SEQUENCE list_change;
CREATE TABLE feature_list (
    change BIGINT NOT NULL,
    list VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    description VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL,
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (list, change)
);
CREATE TABLE list_entry (
    change BIGINT NOT NULL,
    list VARCHAR NOT NULL,
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    note VARCHAR NOT NULL,
    place INTEGER NOT NULL,
    removed BOOLEAN NOT NULL,
    created TIMESTAMP NOT NULL
);
