-- Runs that are kept: what was asked, what came out, and whatever else it takes to do it again.
CREATE TABLE experiment (
    experiment VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL CHECK (kind IN ('steer', 'sweep', 'examples', 'contrast', 'ablate', 'effects', 'splice', 'circuit')),
    harvest VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    model_hash VARCHAR NOT NULL,
    dictionaries VARCHAR NOT NULL,
    request VARCHAR NOT NULL,
    result VARCHAR NOT NULL,
    versions VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL
);

CREATE SEQUENCE experiment_word_id;
CREATE TABLE experiment_word (
    word BIGINT PRIMARY KEY DEFAULT nextval('experiment_word_id'),
    experiment VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('note', 'deleted')),
    value VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL
);
