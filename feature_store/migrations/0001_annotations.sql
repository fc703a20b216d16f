-- What people say of features. Rows are only ever added: the newest of a kind is in force,
-- the older ones are its history.
CREATE SEQUENCE annotation_id;
CREATE TABLE annotation (
    annotation BIGINT PRIMARY KEY DEFAULT nextval('annotation_id'),
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('label', 'note', 'star')),
    value VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL
);
