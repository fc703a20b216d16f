-- How well sentences about features do, with what the same judge gave labels that know nothing, on
-- the same windows. Rows are only ever added: the newest of an explanation, a scorer and a judge is
-- in force.
CREATE SEQUENCE score_id;
CREATE TABLE score (
    score BIGINT PRIMARY KEY DEFAULT nextval('score_id'),
    explanation BIGINT NOT NULL,
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    scorer VARCHAR NOT NULL,
    measure VARCHAR NOT NULL,
    judge VARCHAR NOT NULL, -- `pattern`, or a model's name
    value DOUBLE, -- NULL: not defined, or too few; `note` says why
    low DOUBLE, -- 95 %
    high DOUBLE,
    n INTEGER NOT NULL,
    n_documents INTEGER NOT NULL,
    note VARCHAR NOT NULL,
    hard DOUBLE, -- the same against hard negatives, where a scorer has two kinds
    borrowed DOUBLE, -- the value of each null label
    constant DOUBLE,
    token DOUBLE,
    failed INTEGER NOT NULL, -- items without a usable answer; in no number
    parts VARCHAR NOT NULL, -- JSON: name → estimate
    nulls VARCHAR NOT NULL, -- JSON: null → its label and estimate
    detail VARCHAR NOT NULL, -- JSON: what else the scorer says
    judged BLOB NOT NULL, -- the judge's answer for each item, JSON in zlib
    harvest VARCHAR NOT NULL,
    job VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL
);
