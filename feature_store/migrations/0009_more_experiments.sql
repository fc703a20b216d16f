-- Two more kinds of runs: `shift` and `clusters`. A check cannot be changed, so the rows move.
CREATE TABLE experiment_before AS SELECT * FROM experiment;
DROP TABLE experiment;
CREATE TABLE experiment (
    experiment VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL CHECK (kind IN ('steer', 'sweep', 'examples', 'contrast', 'ablate', 'effects', 'splice', 'circuit', 'shift', 'clusters')),
    harvest VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    model_hash VARCHAR NOT NULL,
    dictionaries VARCHAR NOT NULL,
    request VARCHAR NOT NULL,
    result VARCHAR NOT NULL,
    versions VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL
);
INSERT INTO experiment SELECT * FROM experiment_before;
DROP TABLE experiment_before;
