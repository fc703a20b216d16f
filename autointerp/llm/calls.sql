-- What a job asked and what it was told. Rows are only ever added: an attempt without an outcome
-- was under way when its process ended.
CREATE TABLE IF NOT EXISTS attempt (
    attempt BIGINT NOT NULL,
    hash UBIGINT NOT NULL,       -- the first 8 bytes of the key
    key VARCHAR NOT NULL,        -- sha256 of the request
    number INTEGER NOT NULL,     -- of this request's attempts, from 1
    base_url VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    purpose VARCHAR NOT NULL,
    request VARCHAR,             -- JSON, as it was asked; null from the second attempt on
    reserved DOUBLE NOT NULL,    -- US dollars that it cost at most
    started TIMESTAMP NOT NULL
);
CREATE TABLE IF NOT EXISTS outcome (
    attempt BIGINT NOT NULL,
    hash UBIGINT NOT NULL,
    key VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,       -- reply, lost, or a kind of failure
    sentence VARCHAR NOT NULL,   -- why it failed
    text VARCHAR,                -- of the reply, if there was one
    logprobs VARCHAR,            -- JSON
    tokens_in BIGINT,
    tokens_out BIGINT,
    cost DOUBLE,                 -- US dollars by tokens and prices; null where one is unknown
    charged DOUBLE NOT NULL,     -- what the budget counts: the cost, or the reserve where unknown
    latency_s DOUBLE,
    ended TIMESTAMP NOT NULL
);
