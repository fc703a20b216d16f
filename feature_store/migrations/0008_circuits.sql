-- Graphs of circuits. The run itself is an experiment of kind `circuit`, whose result names its
-- graph; a graph is named by its content and never changes. What people mark in it are rows next to
-- it, only ever added: the newest of a kind is in force.
CREATE TABLE circuit_node (
    graph VARCHAR NOT NULL,
    node INTEGER NOT NULL, -- its place in the circuit's order: by falling |effect|
    id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('feature', 'error', 'token', 'logit', 'head')),
    layer INTEGER NOT NULL, -- -1: tokens; the number of layers: logits
    position INTEGER, -- NULL: summed over positions
    dictionary VARCHAR NOT NULL,
    feature INTEGER,
    effect DOUBLE,
    value DOUBLE,
    label VARCHAR NOT NULL
);
CREATE TABLE circuit_edge (
    graph VARCHAR NOT NULL,
    source INTEGER NOT NULL, -- circuit_node.node, as is `target`
    target INTEGER NOT NULL,
    weight DOUBLE NOT NULL
);

CREATE SEQUENCE circuit_word_id;
CREATE TABLE circuit_word (
    word BIGINT PRIMARY KEY DEFAULT nextval('circuit_word_id'),
    experiment VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('pins', 'hidden', 'groups')),
    value VARCHAR NOT NULL, -- JSON: ids of nodes; for groups a name with ids each
    created TIMESTAMP NOT NULL
);
