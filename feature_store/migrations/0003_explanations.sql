-- Sentences about features, with where they are from. Rows are only ever added: the newest row of
-- the same words from the same explainer is in force, unless it withdraws them.
CREATE SEQUENCE explanation_id;
CREATE TABLE explanation (
    explanation BIGINT PRIMARY KEY DEFAULT nextval('explanation_id'),
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    text VARCHAR NOT NULL,
    explainer VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    author VARCHAR NOT NULL CHECK (author IN ('model', 'person')),
    provenance VARCHAR NOT NULL,
    withdrawn BOOLEAN NOT NULL,
    created TIMESTAMP NOT NULL
);
