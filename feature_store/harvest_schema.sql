-- One harvest file, schema 2. docs/data.md says what every column means; a test holds the two together.
-- Written once, published by an atomic rename, from then on only ever opened read-only.

CREATE TABLE harvest (
    id VARCHAR NOT NULL,
    schema INTEGER NOT NULL,
    model VARCHAR NOT NULL,
    model_source VARCHAR NOT NULL,
    model_hash VARCHAR NOT NULL,
    corpus VARCHAR NOT NULL,
    tokens BIGINT NOT NULL,
    documents BIGINT NOT NULL,
    sequences BIGINT NOT NULL,
    context_size INTEGER NOT NULL,
    window_size INTEGER NOT NULL,
    windows BIGINT NOT NULL,
    packed BOOLEAN NOT NULL,
    seed BIGINT NOT NULL,
    forward_batch INTEGER NOT NULL,
    dtype VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    encoding VARCHAR NOT NULL,
    versions VARCHAR NOT NULL,
    revision VARCHAR NOT NULL,
    warnings VARCHAR[] NOT NULL,
    started TIMESTAMP NOT NULL,
    finished TIMESTAMP NOT NULL
);

CREATE TABLE dictionary (
    dictionary VARCHAR NOT NULL,
    reads STRUCT(hook VARCHAR, "start" INTEGER, stop INTEGER, model VARCHAR)[] NOT NULL,
    writes STRUCT(hook VARCHAR, "start" INTEGER, stop INTEGER, model VARCHAR)[] NOT NULL,
    architecture VARCHAR NOT NULL,
    signed BOOLEAN NOT NULL,
    d_in INTEGER NOT NULL,
    d_out INTEGER NOT NULL,
    d_sae INTEGER NOT NULL,
    source VARCHAR NOT NULL,
    weights_hash VARCHAR NOT NULL,
    model_kwargs VARCHAR NOT NULL,
    explained_variance DOUBLE,
    l0 DOUBLE,
    ce_clean DOUBLE,
    ce_spliced DOUBLE,
    ce_zero DOUBLE,
    ce_mean DOUBLE,
    delta_ce DOUBLE,
    recovery_zero DOUBLE,
    recovery_mean DOUBLE,
    check_tokens BIGINT,
    check_documents BIGINT,
    published_l0 DOUBLE,
    published_explained_variance DOUBLE,
    check_words VARCHAR[] NOT NULL,
    n_dead BIGINT NOT NULL,
    mean_active DOUBLE NOT NULL,
    coactive_tokens BIGINT NOT NULL,
    coactive_rate DOUBLE NOT NULL,
    token_sample_tokens BIGINT NOT NULL,
    token_sample_rate DOUBLE NOT NULL
);

CREATE TABLE feature (
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    n_active BIGINT NOT NULL,
    density DOUBLE NOT NULL,
    window_density DOUBLE NOT NULL,
    max_act FLOAT,
    mean_act DOUBLE,
    mean_all DOUBLE NOT NULL,
    std_act DOUBLE,
    skew DOUBLE,
    kurtosis DOUBLE,
    bos_act FLOAT,
    mean_position DOUBLE,
    histogram_start SMALLINT,
    histogram INTEGER[],
    window_histogram_start SMALLINT,
    window_histogram INTEGER[],
    top_token INTEGER,
    top_token_share DOUBLE,
    top_token_n BIGINT NOT NULL,
    promoted_tokens INTEGER[],
    promoted_values FLOAT[],
    suppressed_tokens INTEGER[],
    suppressed_values FLOAT[],
    logit_kurtosis DOUBLE,
    decoder_norm FLOAT,
    encoder_decoder_cosine FLOAT,
    nearest INTEGER[],
    nearest_cosine FLOAT[],
    coactive INTEGER[],
    coactive_phi FLOAT[],
    coactive_count INTEGER[],
    positive STRUCT(n_active BIGINT, density DOUBLE, window_density DOUBLE, max_act FLOAT, mean_act DOUBLE,
        std_act DOUBLE, skew DOUBLE, kurtosis DOUBLE, histogram_start SMALLINT, histogram INTEGER[]),
    negative STRUCT(n_active BIGINT, density DOUBLE, window_density DOUBLE, max_act FLOAT, mean_act DOUBLE,
        std_act DOUBLE, skew DOUBLE, kurtosis DOUBLE, histogram_start SMALLINT, histogram INTEGER[]),
    first_context BIGINT NOT NULL,
    n_contexts INTEGER NOT NULL
);

CREATE TYPE stratum AS ENUM ('top', 'bottom', 'range');
CREATE TYPE split AS ENUM ('explain', 'score');

CREATE TABLE context (
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    stratum stratum NOT NULL,
    rank SMALLINT NOT NULL,
    weight FLOAT,
    split split NOT NULL,
    document INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length SMALLINT NOT NULL,
    peak INTEGER NOT NULL,
    value FLOAT NOT NULL,
    positions USMALLINT[] NOT NULL,
    activations FLOAT[] NOT NULL
);

CREATE TABLE document (
    document INTEGER NOT NULL,
    name VARCHAR NOT NULL
);

CREATE TABLE sequence (
    sequence INTEGER NOT NULL,
    document INTEGER NOT NULL,
    start INTEGER NOT NULL,
    split split NOT NULL,
    token_ids INTEGER[] NOT NULL,
    documents INTEGER[],
    borders INTEGER[]
);

CREATE TABLE silent_window (
    dictionary VARCHAR NOT NULL,
    "window" INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length SMALLINT NOT NULL,
    split split NOT NULL,
    positions USMALLINT[] NOT NULL,
    features INTEGER[] NOT NULL,
    activations FLOAT[] NOT NULL
);

CREATE TABLE token (
    token_id INTEGER NOT NULL,
    text VARCHAR NOT NULL,
    bytes BLOB NOT NULL
);
