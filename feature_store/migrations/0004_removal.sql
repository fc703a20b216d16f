-- What setting one feature to zero changes in one stored context: computed when first asked for.
-- A harvest names its weights by hash, so a row never grows old.
CREATE TABLE removal (
    harvest VARCHAR NOT NULL,
    dictionary VARCHAR NOT NULL,
    feature INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    start INTEGER NOT NULL, -- of the window, as is `peak` a position in the sequence
    peak INTEGER NOT NULL,
    next_loss DOUBLE, -- nats, removed minus as it is, at the token after the peak; NULL: there is none
    window_loss DOUBLE NOT NULL, -- the same, summed over the window's predictions
    window_n INTEGER NOT NULL, -- how many those are
    tokens INTEGER[] NOT NULL, -- whose probability at the peak moves most
    before DOUBLE[] NOT NULL,
    after DOUBLE[] NOT NULL,
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (harvest, dictionary, feature, sequence, start, peak)
);
