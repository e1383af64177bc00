-- The log: events, their streams, the shards' owners, and what owners write behind.
--
-- Nothing here uses a sequence, an advisory lock, NOTIFY, a table lock or a trigger: positions are numbered by a
-- shard's one owner, and the primary key of `event` is the compare-and-set.
--
-- Times are microseconds since the epoch, exact and without a zone; `event_readable` shows them to people.
-- The runner hands in what is chosen for a new log: tasker.log_id, tasker.shards, tasker.partition_size.

CREATE TABLE log (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    log_id         text    NOT NULL,            -- short and random, renewed after a restore to an earlier time
    format         integer NOT NULL,            -- of the rows of `event`
    slots          integer NOT NULL,
    hash           text    NOT NULL,            -- of the slots and the chain
    partition_size bigint  NOT NULL CHECK (partition_size > 0),
    partitions     integer NOT NULL             -- attached so far: positions 1 to partitions * partition_size
);

CREATE TABLE slot (
    slot  integer PRIMARY KEY,
    shard integer NOT NULL
);

-- A row changes at a renewal and at a takeover, never at an append: row versions would pile up behind any long
-- snapshot. The free space keeps its updates in place.
CREATE TABLE shard_head (
    shard       integer     PRIMARY KEY,
    epoch       bigint      NOT NULL,
    owner       text,                           -- random, per process start; null when nobody's
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- A row is inserted by the statement of the stream's first event: a second birth breaks the key, and one probe here
-- proves absence, which would cost one in each partition of `event`.
CREATE TABLE stream (
    stream_id      uuid    PRIMARY KEY,
    first_position bigint  NOT NULL,            -- prunes the partitions of a load
    created_at_us  bigint  NOT NULL,
    shard          integer NOT NULL,
    kind           text    NOT NULL
);

-- Fixed columns first, so that nothing is lost to alignment. Each partition also has a unique (stream_id, seq),
-- which the parent cannot have: it would have to contain the position.
CREATE TABLE event (
    position  bigint   NOT NULL,                -- in the shard, from 1 without gaps
    epoch     bigint   NOT NULL,                -- of the owner that appended it
    at_us     bigint   NOT NULL,                -- never decreasing in a shard
    stream_id uuid     NOT NULL,
    shard     integer  NOT NULL,
    seq       integer  NOT NULL,                -- in the stream, from 1 without gaps
    version   smallint NOT NULL,
    kind      text     NOT NULL,
    type      text     NOT NULL,
    tenant    text     NOT NULL,
    encoding  text     NOT NULL,                -- how `payload` is stored
    meta      bytea    NOT NULL,                -- exact JSON
    payload   bytea    NOT NULL,
    chain     bytea,                            -- on the last event of a batch: the digest over all before
    PRIMARY KEY (shard, position)
) PARTITION BY RANGE (position);

-- Attach the partitions that hold every position up to `until`; returns how many were made.
-- A table made alone and attached while empty asks the parent for a lock that appends do not mind, where
-- CREATE TABLE ... PARTITION OF would wait for all of them and hold up the next. The row of `log` admits one at a time.
CREATE FUNCTION attach_event_partitions(until bigint) RETURNS integer LANGUAGE plpgsql AS $attach$
DECLARE
    size   bigint;
    number integer;
    made   integer := 0;
    name   text;
BEGIN
    SELECT log.partition_size, log.partitions INTO STRICT size, number FROM log FOR UPDATE;
    WHILE number * size < until LOOP
        name := 'event_' || number;
        EXECUTE format('CREATE TABLE %I (LIKE event INCLUDING ALL)', name);
        EXECUTE format('CREATE UNIQUE INDEX %I ON %I (stream_id, seq)', name || '_stream_id_seq_key', name);
        EXECUTE format('ALTER TABLE event ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                       name, number * size + 1, (number + 1) * size + 1);
        number := number + 1;
        made := made + 1;
    END LOOP;
    UPDATE log SET partitions = number WHERE made > 0;
    RETURN made;
END
$attach$;

CREATE TABLE blob (
    hash  bytea PRIMARY KEY,                    -- sha256 of the bytes
    bytes bytea NOT NULL
);

-- What is owed to tasks, and when. A row is a hint: the actor it wakes decides from its state.
CREATE TABLE due (
    shard      integer NOT NULL,
    stream_id  uuid    NOT NULL,
    obligation text    NOT NULL,
    at_us      bigint  NOT NULL,
    PRIMARY KEY (shard, stream_id, obligation)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

CREATE INDEX due_time ON due (shard, at_us, stream_id, obligation);

CREATE TABLE due_checkpoint (
    shard    integer PRIMARY KEY,
    epoch    bigint  NOT NULL,
    position bigint  NOT NULL                   -- every event up to here is in the rows of `due`
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE publish_cursor (
    shard    integer PRIMARY KEY,
    epoch    bigint  NOT NULL,
    position bigint  NOT NULL                   -- the event stream has acknowledged every event up to here
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE VIEW event_readable AS
SELECT shard, position, epoch, kind, stream_id, seq, type, version, tenant,
       timestamptz 'epoch' + at_us * interval '1 microsecond' AS at,
       encoding,
       convert_from(meta, 'UTF8')::json AS meta,
       CASE encoding WHEN 'json' THEN convert_from(payload, 'UTF8')::json END AS payload,
       encode(chain, 'hex') AS chain
FROM event;

INSERT INTO log (log_id, format, slots, hash, partition_size, partitions)
VALUES (current_setting('tasker.log_id'), 1, 1024, 'sha256', current_setting('tasker.partition_size')::bigint, 0);

INSERT INTO slot (slot, shard)
SELECT slot, slot % current_setting('tasker.shards')::integer FROM generate_series(0, 1023) AS slot;

INSERT INTO shard_head (shard, epoch, owner, lease_until)
SELECT shard, 0, NULL, '-infinity' FROM generate_series(0, current_setting('tasker.shards')::integer - 1) AS shard;

INSERT INTO due_checkpoint (shard, epoch, position) SELECT shard, 0, 0 FROM shard_head;
INSERT INTO publish_cursor (shard, epoch, position) SELECT shard, 0, 0 FROM shard_head;

SELECT attach_event_partitions(current_setting('tasker.partition_size')::bigint * 3);
