-- What the log says to Postgres. Each statement commits by itself.

-- name: fence
-- Which of the parts (`part`: shard, epoch, the position it continues, `before`, and the digest known there) may be
-- written: `ready`.
-- The heads are locked in one order; a takeover waits for us, or we see its epoch and the shard drops out.
-- The events of a shard that drops out, or whose past is not there (the log was restored to an earlier time under its
-- owner, and may have gone on), join nothing and are not written.
head AS MATERIALIZED (
    SELECT p.* FROM part AS p JOIN shard_head AS h ON h.shard = p.shard
    WHERE h.epoch = p.epoch
    ORDER BY h.shard FOR SHARE OF h
), ready AS MATERIALIZED (
    SELECT * FROM head AS h
    WHERE h.before = 0 OR EXISTS (
        SELECT FROM event AS e WHERE e.shard = h.shard AND e.position = h.before AND e.chain = h.known
    )
)

-- name: append
-- $1-$9   a part: its shard and epoch, the position it continues, the digest known there, what makes positions of its
--         events' ordinals, the ordinal of its last event, the digest for that one; the same two of the last event
--         before a partition's border
-- $10-$14 a form: version, kind, type, tenant, encoding; what events share is sent once
-- $15-$19 a stream born here
-- $20-$22 a turn: stream, time and meta, which neighbouring events share
-- $23-$25 an event; `tag` holds seq << 32 | number of its part << 16 | number of its form: an array less costs as
--         much as a twentieth of the whole
-- Any other fault than that of the fence (a key that is taken) fails the whole statement.
WITH part AS MATERIALIZED (
    SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[],
                         $7::bytea[], $8::bigint[], $9::bytea[])
        WITH ORDINALITY AS p (shard, epoch, before, known, start, until, digest, border, border_digest, number)
), {fence}, born AS (
    INSERT INTO stream (stream_id, first_position, created_at_us, shard, kind)
    SELECT b.stream_id, b.position, b.at_us, b.shard, b.kind
    FROM unnest($15::uuid[], $16::bigint[], $17::bigint[], $18::integer[], $19::text[])
        AS b (stream_id, position, at_us, shard, kind)
    WHERE b.shard IN (SELECT shard FROM ready)
), added AS (
    INSERT INTO event (position, epoch, at_us, stream_id, shard, seq, version, kind, type, tenant, encoding,
                       meta, payload, chain)
    SELECT p.start + e.ordinal, p.epoch, t.at_us, t.stream_id, p.shard, (e.tag >> 32)::integer,
           ($10::smallint[])[e.tag & 65535], ($11::text[])[e.tag & 65535], ($12::text[])[e.tag & 65535],
           ($13::text[])[e.tag & 65535], ($14::text[])[e.tag & 65535],
           t.meta, e.payload, CASE e.ordinal WHEN p.until THEN p.digest WHEN p.border THEN p.border_digest END
    FROM unnest($23::bigint[], $24::integer[], $25::bytea[]) WITH ORDINALITY AS e (tag, turn, payload, ordinal)
    JOIN unnest($20::uuid[], $21::bigint[], $22::bytea[]) WITH ORDINALITY AS t (stream_id, at_us, meta, number)
        ON t.number = e.turn
    JOIN ready AS p ON p.number = (e.tag >> 16) & 65535
)
SELECT shard FROM ready

-- name: append_turn
-- One turn of one stream, which is all there is to write while little happens: the same as `append`, without the joins
-- and arrays that many need, so that it takes half of the time in the server.
-- $1-$4   its shard and epoch, the position it continues, the digest known there
-- $5-$9   what its events share: stream, time, meta, kind, tenant
-- $10     the `seq` before the first of them; 0: the stream is born here
-- $11-$12 how many events there are, and the digest for the last one
-- $13-$16 an event: version, type, encoding, payload
WITH part AS (
    SELECT $1::integer AS shard, $2::bigint AS epoch, $3::bigint AS before, $4::bytea AS known
), {fence}, born AS (
    INSERT INTO stream (stream_id, first_position, created_at_us, shard, kind)
    SELECT $5::uuid, p.before + 1, $6::bigint, p.shard, $8::text FROM ready AS p WHERE $10::integer = 0
), added AS (
    INSERT INTO event (position, epoch, at_us, stream_id, shard, seq, version, kind, type, tenant, encoding,
                       meta, payload, chain)
    SELECT p.before + e.ordinal, p.epoch, $6::bigint, $5::uuid, p.shard, $10::integer + e.ordinal::integer, e.version,
           $8::text, e.type, $9::text, e.encoding, $7::bytea, e.payload,
           CASE e.ordinal WHEN $11::bigint THEN $12::bytea END
    FROM unnest($13::smallint[], $14::text[], $15::text[], $16::bytea[])
        WITH ORDINALITY AS e (version, type, encoding, payload, ordinal)
    CROSS JOIN ready AS p
)
SELECT shard FROM ready

-- name: info
SELECT log_id, format, slots, hash, partition_size, partitions,
       ARRAY(SELECT shard FROM slot ORDER BY slot) AS shard_of_slot
FROM log

-- name: highest_position
SELECT coalesce(max(l.position), 0) AS position
FROM shard_head AS h
CROSS JOIN LATERAL (SELECT e.position FROM event AS e WHERE e.shard = h.shard ORDER BY e.position DESC LIMIT 1) AS l

-- name: attach_partitions
SELECT attach_event_partitions($1) AS made

-- name: acquire
-- Nothing is taken of a log that has another id than the owner knows it by ($4): it was renewed meanwhile. The lock waits
-- for a renewal that is just going on, and a renewal for this.
WITH here AS MATERIALIZED (
    SELECT log_id FROM log FOR SHARE
), free AS MATERIALIZED (
    SELECT shard FROM shard_head
    WHERE shard = ANY ($2::integer[]) AND (owner IS NULL OR owner = $1 OR lease_until < clock_timestamp())
      AND (SELECT log_id FROM here) = $4
    ORDER BY shard FOR UPDATE
), taken AS (
    UPDATE shard_head AS h
    SET epoch = h.epoch + 1, owner = $1, lease_until = clock_timestamp() + $3::float8 * interval '1 second'
    FROM free WHERE h.shard = free.shard
    RETURNING h.shard, h.epoch
)
SELECT array_agg(shard) AS shards, array_agg(epoch) AS epochs,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us, (SELECT log_id FROM here) AS log_id
FROM taken

-- name: renew
WITH held AS MATERIALIZED (
    SELECT shard FROM shard_head WHERE owner = $1 ORDER BY shard FOR UPDATE
), renewed AS (
    UPDATE shard_head AS h
    SET lease_until = clock_timestamp() + $2::float8 * interval '1 second'
    FROM held WHERE h.shard = held.shard
    RETURNING h.shard, h.epoch
)
SELECT array_agg(shard) AS shards, array_agg(epoch) AS epochs,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us, (SELECT log_id FROM log) AS log_id
FROM renewed

-- name: release
WITH held AS MATERIALIZED (
    SELECT shard FROM shard_head WHERE owner = $1 ORDER BY shard FOR UPDATE
)
UPDATE shard_head AS h SET owner = NULL, lease_until = '-infinity' FROM held WHERE h.shard = held.shard

-- name: heads
SELECT h.shard, h.epoch, h.owner, l.position, l.chain, l.at_us
FROM shard_head AS h
LEFT JOIN LATERAL (
    SELECT e.position, e.chain, e.at_us FROM event AS e WHERE e.shard = h.shard ORDER BY e.position DESC LIMIT 1
) AS l ON true
WHERE h.shard = ANY ($1::integer[])

-- name: lock_head
SELECT epoch, owner FROM shard_head WHERE shard = $1 FOR UPDATE

-- name: last_of_shard
SELECT position FROM event WHERE shard = $1 ORDER BY position DESC LIMIT 1

-- name: chain_at
SELECT chain FROM event WHERE shard = $1 AND position = $2

-- name: raise_epoch
UPDATE shard_head SET epoch = epoch + 1 WHERE shard = $1 RETURNING epoch

-- name: confirm
SELECT h.shard FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS asked (shard, epoch, position)
JOIN shard_head AS h ON h.shard = asked.shard AND h.epoch = asked.epoch
WHERE asked.position = 0
   OR EXISTS (SELECT FROM event AS e WHERE e.shard = asked.shard AND e.position = asked.position)

-- name: put_blob
INSERT INTO blob (hash, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: get_blob
SELECT bytes FROM blob WHERE hash = $1

-- name: streams
SELECT stream_id, shard, first_position FROM stream WHERE stream_id = ANY ($1::uuid[])

-- name: load
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us, e.meta,
       e.payload, e.encoding, e.chain
FROM unnest($1::uuid[]) AS asked (stream_id)
JOIN stream AS s ON s.stream_id = asked.stream_id
JOIN event AS e ON e.stream_id = s.stream_id AND e.position >= s.first_position

-- name: last_of_streams
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us, e.meta,
       e.payload, e.encoding, e.chain
FROM unnest($1::uuid[]) AS asked (stream_id)
JOIN stream AS s ON s.stream_id = asked.stream_id
CROSS JOIN LATERAL (
    SELECT * FROM event
    WHERE event.stream_id = s.stream_id AND event.position >= s.first_position
    ORDER BY event.seq DESC LIMIT 1
) AS e

-- name: load_histories
-- A stream's events from the one that its snapshot was made at, else from the first; and the snapshots, as rows of the
-- same columns: together in one statement they are of one moment. What is asked of a stream's events is a question of
-- its own (its ORDER BY makes it one), so that where they begin is looked up in the index and not filtered behind it.
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us, e.meta,
       e.payload, e.encoding, e.chain
FROM unnest($1::uuid[]) AS asked (stream_id)
JOIN stream AS s ON s.stream_id = asked.stream_id
LEFT JOIN snapshot AS n ON n.shard = s.shard AND n.stream_id = s.stream_id
CROSS JOIN LATERAL (
    SELECT * FROM event
    WHERE event.stream_id = s.stream_id AND event.position >= coalesce(n.position, s.first_position)
      AND event.seq >= coalesce(n.seq, 1) AND event.seq < coalesce(n.seq, 1) + $2::integer
    ORDER BY event.seq
) AS e
UNION ALL
SELECT n.shard, n.position, n.epoch, n.stream_id, n.kind, n.seq, 'snapshot', n.form, '', 0, ''::bytea,
       n.state, 'snapshot', NULL
FROM unnest($1::uuid[]) AS asked (stream_id)
JOIN stream AS s ON s.stream_id = asked.stream_id
JOIN snapshot AS n ON n.shard = s.shard AND n.stream_id = s.stream_id

-- name: load_stream
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us, e.meta,
       e.payload, e.encoding, e.chain
FROM event AS e
WHERE e.stream_id = $1 AND e.position >= (SELECT s.first_position FROM stream AS s WHERE s.stream_id = $1)
  AND e.seq > $2::bigint
ORDER BY e.seq LIMIT $3

-- name: read
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us, e.meta,
       e.payload, e.encoding, e.chain
FROM event AS e
WHERE e.shard = $1 AND e.position > $2::bigint AND e.position <= $2::bigint + $3::bigint
ORDER BY e.position

-- name: write_snapshots
-- What tells of an event that the log does not have comes from before it was restored, as in `write_due`.
WITH right_epoch AS MATERIALIZED (
    SELECT h.shard, h.epoch
    FROM unnest($1::integer[], $2::bigint[]) AS c (shard, epoch)
    JOIN shard_head AS h ON h.shard = c.shard
    WHERE h.epoch = c.epoch
    ORDER BY h.shard FOR SHARE OF h
)
INSERT INTO snapshot (shard, stream_id, position, epoch, seq, form, kind, state)
SELECT w.shard, w.stream_id, w.position, r.epoch, w.seq, w.form, w.kind, w.state
FROM unnest($3::integer[], $4::uuid[], $5::bigint[], $6::integer[], $7::smallint[], $8::text[], $9::bytea[])
    AS w (shard, stream_id, position, seq, form, kind, state)
JOIN right_epoch AS r ON r.shard = w.shard
WHERE EXISTS (SELECT FROM event AS e WHERE e.shard = w.shard AND e.position = w.position)
ON CONFLICT (shard, stream_id) DO UPDATE
SET position = excluded.position, epoch = excluded.epoch, seq = excluded.seq, form = excluded.form,
    kind = excluded.kind, state = excluded.state
RETURNING stream_id

-- name: snapshots
SELECT shard, stream_id, position, seq, form, kind, state
FROM snapshot
WHERE shard = $1 AND stream_id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
ORDER BY stream_id LIMIT $3

-- name: write_due
-- An owner that outlives a restore to an earlier time has its old epoch and a checkpoint that the log has lost: it would
-- take away what the restored tasks owe.
WITH right_epoch AS MATERIALIZED (
    SELECT h.shard, c.epoch, c.position
    FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS c (shard, epoch, position)
    JOIN shard_head AS h ON h.shard = c.shard
    WHERE h.epoch = c.epoch
      AND (c.position = 0 OR EXISTS (SELECT FROM event AS e WHERE e.shard = c.shard AND e.position = c.position))
    ORDER BY h.shard FOR SHARE OF h
), gone AS (
    DELETE FROM due AS d USING unnest($8::integer[], $9::uuid[], $10::text[]) AS g (shard, stream_id, obligation)
    WHERE d.shard = g.shard AND d.stream_id = g.stream_id AND d.obligation = g.obligation
      AND g.shard IN (SELECT shard FROM right_epoch)
), owed AS (
    INSERT INTO due (shard, stream_id, obligation, at_us)
    SELECT o.shard, o.stream_id, o.obligation, o.at_us
    FROM unnest($4::integer[], $5::uuid[], $6::text[], $7::bigint[]) AS o (shard, stream_id, obligation, at_us)
    WHERE o.shard IN (SELECT shard FROM right_epoch)
    ON CONFLICT (shard, stream_id, obligation) DO UPDATE SET at_us = excluded.at_us
)
UPDATE due_checkpoint AS c SET epoch = r.epoch, position = r.position
FROM right_epoch AS r WHERE c.shard = r.shard
RETURNING c.shard

-- name: due_checkpoint
SELECT shard, position FROM due_checkpoint WHERE shard = ANY ($1::integer[])

-- name: due_between
SELECT d.shard, d.stream_id, d.obligation, d.at_us
FROM unnest($1::integer[]) AS asked (shard)
CROSS JOIN LATERAL (
    SELECT * FROM due
    WHERE due.shard = asked.shard AND due.at_us <= $5
      AND (due.at_us, due.stream_id, due.obligation) > ($2::bigint, $3::uuid, $4::text)
      AND ($7::bigint IS NULL
           OR EXISTS (SELECT FROM stream AS s WHERE s.stream_id = due.stream_id AND s.created_at_us < $7))
    ORDER BY due.at_us, due.stream_id, due.obligation LIMIT $6
) AS d
ORDER BY d.at_us, d.stream_id, d.obligation LIMIT $6

-- name: due_of
SELECT stream_id, obligation FROM due WHERE shard = $1 AND stream_id = ANY ($2::uuid[])

-- name: open_streams
-- The ending is a stream's last event: found by the first row that the index gives, or by one more.
SELECT b.stream_id
FROM event AS b
LEFT JOIN LATERAL (
    SELECT true AS is_over
    FROM event AS e
    WHERE e.stream_id = b.stream_id AND e.position >= b.position AND e.type = ANY ($5::text[])
    ORDER BY e.seq DESC LIMIT 1
) AS ended ON true
WHERE b.shard = $1 AND b.position > $2::bigint AND b.position <= $2::bigint + $3::bigint
  AND b.seq = 1 AND b.kind = $4 AND ended.is_over IS NULL
ORDER BY b.position

-- name: publish_cursors
SELECT shard, position FROM publish_cursor WHERE shard = ANY ($1::integer[])

-- name: move_publish_cursors
WITH right_epoch AS MATERIALIZED (
    SELECT h.shard, m.epoch, m.position
    FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS m (shard, epoch, position)
    JOIN shard_head AS h ON h.shard = m.shard
    WHERE h.epoch = m.epoch
      AND (m.position = 0 OR EXISTS (SELECT FROM event AS e WHERE e.shard = m.shard AND e.position = m.position))
    ORDER BY h.shard FOR SHARE OF h
)
UPDATE publish_cursor AS c SET epoch = r.epoch, position = r.position
FROM right_epoch AS r WHERE c.shard = r.shard
RETURNING c.shard

-- name: set_session
SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS chosen (name, value)

-- name: demand_durable_commits
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')

-- name: session_facts
SELECT pg_backend_pid() AS pid, current_setting('tasker.session', true) AS mark
