-- A long stream's state as of one of its events, so that a fold can start there. Never the truth: a row that is gone,
-- or does not fit, costs a fold from the first event. The owner of the shard writes it behind, under its epoch.
CREATE TABLE snapshot (
    shard     integer  NOT NULL,
    stream_id uuid     NOT NULL,
    position  bigint   NOT NULL,                -- of the last event in it; with `seq` it says whether the two fit
    epoch     bigint   NOT NULL,                -- of the owner that wrote it
    seq       integer  NOT NULL,
    form      smallint NOT NULL,                -- how `state` is written: counted by kind
    kind      text     NOT NULL,
    state     bytea    NOT NULL,                -- JSON
    PRIMARY KEY (shard, stream_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
