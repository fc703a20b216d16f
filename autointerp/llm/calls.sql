-- Call log of a job: attempts to ask a language model, and their outcomes. Rows are only ever added:
-- an attempt without an outcome was in flight when its process ended.
CREATE TABLE IF NOT EXISTS attempt (
    attempt BIGINT NOT NULL,
    hash UBIGINT NOT NULL,       -- the first 8 bytes of the key
    key VARCHAR NOT NULL,        -- sha256 of the request
    number INTEGER NOT NULL,     -- number of the attempt at this request, from 1
    base_url VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    purpose VARCHAR NOT NULL,
    request VARCHAR,             -- JSON of the request; null from the second attempt on
    reserved DOUBLE NOT NULL,    -- maximum cost in US dollars, reserved in the budget
    started TIMESTAMP NOT NULL
);
CREATE TABLE IF NOT EXISTS outcome (
    attempt BIGINT NOT NULL,
    hash UBIGINT NOT NULL,
    key VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,       -- `reply`, `lost`, or a kind of failure
    sentence VARCHAR NOT NULL,   -- why it failed
    text VARCHAR,                -- text of the reply, null where there was none
    logprobs VARCHAR,            -- JSON: token, log probability and candidates
    tokens_in BIGINT,
    tokens_out BIGINT,
    cost DOUBLE,                 -- US dollars by tokens and prices; null where either is unknown
    charged DOUBLE NOT NULL,     -- what the budget counts: the cost, or the reserve where unknown
    latency_s DOUBLE,
    ended TIMESTAMP NOT NULL
);
