-- Statements of the projections' store. Rows that are new are copied into their table, which needs none.

-- name: tail
-- Every shard asked for in one statement; the bound above keeps it within one or two partitions.
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us,
       e.meta, e.payload, e.encoding, e.chain
FROM unnest($1::integer[], $2::bigint[]) AS asked (shard, after)
CROSS JOIN LATERAL (
    SELECT * FROM event
    WHERE event.shard = asked.shard AND event.position > asked.after AND event.position <= asked.after + $3
    ORDER BY event.position LIMIT $3
) AS e

-- name: tail_by_bytes
-- The same, and each shard's up to so many bytes. The length of a payload is known without reading it; adding them up
-- costs 0.6 us an event all the same. The first event has nothing before it, so it comes however large it is.
SELECT e.shard, e.position, e.epoch, e.stream_id, e.kind, e.seq, e.type, e.version, e.tenant, e.at_us,
       e.meta, e.payload, e.encoding, e.chain
FROM unnest($1::integer[], $2::bigint[]) AS asked (shard, after)
CROSS JOIN LATERAL (
    SELECT event.*, octet_length(event.payload) AS size,
           sum(octet_length(event.payload)) OVER (ORDER BY event.position ROWS UNBOUNDED PRECEDING) AS upto
    FROM event
    WHERE event.shard = asked.shard AND event.position > asked.after AND event.position <= asked.after + $3
    ORDER BY event.position LIMIT $3
) AS e
WHERE e.upto <= $4 OR e.upto = e.size

-- name: versions
SELECT name, version FROM projection WHERE name = ANY($1::text[])

-- name: all_versions
SELECT name, version FROM projection

-- name: choose
SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS chosen (name, value)

-- name: positions
-- A shard's position is that of the view that is least far; one that a view has not entered yet is missing.
SELECT c.shard, min(c.position)
FROM projection AS p JOIN checkpoint AS c ON c.projection = p.name AND c.version = p.version
GROUP BY c.shard

-- name: checkpoints_of
SELECT shard, position FROM checkpoint WHERE projection = $1 AND version = $2

-- name: enter_checkpoints
INSERT INTO checkpoint (projection, version, shard, position)
SELECT $1, $2, shard, 0 FROM unnest($3::integer[]) AS shard
ON CONFLICT DO NOTHING

-- name: enter_read_checkpoints
-- Only of the version that is read: the lock waits for a rebuild that is just switching to another.
INSERT INTO checkpoint (projection, version, shard, position)
SELECT $1, $2, shard, 0 FROM unnest($3::integer[]) AS shard
WHERE (SELECT p.version FROM projection AS p WHERE p.name = $1 FOR SHARE) = $2
ON CONFLICT DO NOTHING

-- name: move_checkpoints
-- Given in the order of the key, so that two runners wait for each other instead of deadlocking; the second finds its
-- old positions gone and moves fewer rows than it asked for.
UPDATE checkpoint AS c SET position = m.new
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[])
    AS m (projection, version, shard, old, new)
WHERE c.projection = m.projection AND c.version = m.version AND c.shard = m.shard AND c.position = m.old
RETURNING c.shard

-- name: task_fetch
SELECT t.* FROM {table} AS t JOIN unnest($1::uuid[], $2::text[]) AS k (task_id, part) USING (task_id)

-- name: task_update
UPDATE {table} AS t
SET state = n.state, seq = n.seq, position = n.position, updated_at_us = n.updated_at_us,
    ended_at_us = n.ended_at_us, result = n.result, error = n.error, ending = n.ending,
    blocked_reason = n.blocked_reason, blocked_detail = n.blocked_detail, blocked_steps = n.blocked_steps::json,
    steps_dispatched = n.steps_dispatched, steps_completed = n.steps_completed, steps_failed = n.steps_failed,
    retries = n.retries, poisoned = n.poisoned,
    not_chosen = n.not_chosen::json, tags = n.tags::json, metadata = n.metadata, deadline_us = n.deadline_us,
    place_key = n.place_key, priority = n.priority, not_before_us = n.not_before_us, last_input = n.last_input,
    since_us = n.since_us
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[],
            $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::integer[],
            $15::integer[], $16::integer[], $17::boolean[], $18::text[], $19::text[], $20::bytea[], $21::bigint[],
            $22::text[], $23::smallint[], $24::bigint[], $25::bytea[], $26::bigint[])
    AS n (task_id, state, seq, position, updated_at_us, ended_at_us, result, error, ending, blocked_reason,
          blocked_detail, blocked_steps, steps_dispatched, steps_completed, steps_failed, retries, poisoned,
          not_chosen, tags, metadata, deadline_us, place_key, priority, not_before_us, last_input, since_us)
WHERE t.task_id = n.task_id

-- name: step_fetch
SELECT t.* FROM {table} AS t JOIN unnest($1::uuid[], $2::text[]) AS k (task_id, step) USING (task_id, step)

-- name: step_update
UPDATE {table} AS t
SET state = n.state, attempt = n.attempt, position = n.position, worker = n.worker,
    dispatched_at_us = n.dispatched_at_us, started_at_us = n.started_at_us, ended_at_us = n.ended_at_us,
    retry_at_us = n.retry_at_us, waits = n.waits, child = n.child, by_hand = n.by_hand,
    cancelling = n.cancelling, result = n.result, error = n.error, awaits = n.awaits,
    since_us = n.since_us
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::boolean[],
            $15::bytea[], $16::bytea[], $17::text[], $18::bigint[])
    AS n (task_id, step, state, attempt, position, worker, dispatched_at_us, started_at_us, ended_at_us, retry_at_us,
          waits, child, by_hand, cancelling, result, error, awaits, since_us)
WHERE t.task_id = n.task_id AND t.step = n.step

-- name: template_fetch
SELECT t.* FROM {table} AS t JOIN unnest($1::uuid[], $2::text[]) AS k (stream_id, version) USING (stream_id, version)

-- name: template_update
UPDATE {table} AS t SET chosen_seq = n.chosen_seq, position = n.position
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) AS n (stream_id, version, chosen_seq, position)
WHERE t.stream_id = n.stream_id AND t.version = n.version

-- name: schedule_fetch
SELECT t.* FROM {table} AS t JOIN unnest($1::uuid[], $2::text[]) AS k (stream_id, part) USING (stream_id)

-- name: schedule_update
UPDATE {table} AS t
SET
    template = n.template, state = n.state, spec = n.spec, note = n.note, next_us = n.next_us, due_us = n.due_us,
    fires = n.fires, skips = n.skips, refusals = n.refusals, detail = n.detail, requested_by = n.requested_by,
    reason = n.reason, created_at_us = n.created_at_us, updated_at_us = n.updated_at_us, seq = n.seq,
    position = n.position, poisoned = n.poisoned
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bytea[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[],
    $17::bigint[], $18::boolean[])
    AS n (
        stream_id, template, state, spec, note, next_us, due_us, fires, skips, refusals, detail, requested_by,
        reason, created_at_us, updated_at_us, seq, position, poisoned)
WHERE t.stream_id = n.stream_id

-- name: dlq_fetch
SELECT t.* FROM {table} AS t JOIN unnest($1::uuid[], $2::text[]) AS k (task_id, step) USING (task_id, step)

-- name: dlq_update
UPDATE {table} AS t
SET state = n.state, status = n.status, reason = n.reason, error_type = n.error_type, message = n.message,
    fingerprint = n.fingerprint, pattern = n.pattern, attempt = n.attempt, failures = n.failures, last_us = n.last_us,
    position = n.position, owner = n.owner, notes = n.notes, notes_count = n.notes_count, settled_by = n.settled_by,
    settled_reason = n.settled_reason, settled_us = n.settled_us, left_how = n.left_how, left_us = n.left_us
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::integer[], $11::integer[], $12::bigint[], $13::bigint[], $14::text[], $15::bytea[], $16::integer[],
            $17::text[], $18::text[], $19::bigint[], $20::text[], $21::bigint[])
    AS n (task_id, step, state, status, reason, error_type, message, fingerprint, pattern, attempt, failures, last_us,
          position, owner, notes, notes_count, settled_by, settled_reason, settled_us, left_how, left_us)
WHERE t.task_id = n.task_id AND t.step = n.step

-- name: usage_fetch
SELECT t.* FROM {table} AS t JOIN unnest($1::uuid[], $2::text[]) AS k (task_id, line) USING (task_id, line)

-- name: usage_update
UPDATE {table} AS t SET amount = n.amount, cost = n.cost, attempts = n.attempts, position = n.position
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[])
    AS n (task_id, line, amount, cost, attempts, position)
WHERE t.task_id = n.task_id AND t.line = n.line

-- name: scan_task
SELECT t.* FROM {table} AS t WHERE t.task_id > $1 AND $2::text IS NOT NULL ORDER BY t.task_id LIMIT $3

-- name: scan_step
SELECT t.* FROM {table} AS t WHERE (t.task_id, t.step) > ($1, $2) ORDER BY t.task_id, t.step LIMIT $3

-- name: scan_template
SELECT t.* FROM {table} AS t WHERE (t.stream_id, t.version) > ($1, $2) ORDER BY t.stream_id, t.version LIMIT $3

-- name: scan_schedule
SELECT t.* FROM {table} AS t WHERE t.stream_id > $1 AND $2::text IS NOT NULL ORDER BY t.stream_id LIMIT $3

-- name: scan_dlq
SELECT t.* FROM {table} AS t WHERE (t.task_id, t.step) > ($1, $2) ORDER BY t.task_id, t.step LIMIT $3

-- name: scan_usage
SELECT t.* FROM {table} AS t WHERE (t.task_id, t.line) > ($1, $2) ORDER BY t.task_id, t.line LIMIT $3

-- name: count_rows
SELECT shard, count(*) FROM {table} GROUP BY shard

-- name: task_rows_of
SELECT t.* FROM {table} AS t WHERE t.task_id = ANY ($1::uuid[])

-- name: step_rows_of
SELECT t.* FROM {table} AS t WHERE t.task_id = ANY ($1::uuid[])

-- name: usage_rows_of
SELECT t.* FROM {table} AS t WHERE t.task_id = ANY ($1::uuid[])

-- name: template_rows_of
SELECT t.* FROM {table} AS t WHERE t.stream_id = ANY ($1::uuid[])

-- name: schedule_rows_of
SELECT t.* FROM {table} AS t WHERE t.stream_id = ANY ($1::uuid[])

-- name: dlq_rows_of
SELECT t.* FROM {table} AS t WHERE t.task_id = ANY ($1::uuid[])

-- name: lock_projection
SELECT version FROM projection WHERE name = $1 FOR UPDATE

-- name: unread_versions
SELECT DISTINCT version FROM checkpoint WHERE projection = $1 AND version <> $2 ORDER BY version

-- name: create_table
SELECT create_projection_table($1, $2)

-- name: drop_table
DROP TABLE IF EXISTS {table}

-- name: forget_version
DELETE FROM checkpoint WHERE projection = $1 AND version = $2

-- name: lock_checkpoints
SELECT shard, position FROM checkpoint WHERE projection = $1 AND version = $2 ORDER BY shard FOR UPDATE

-- name: switch_version
UPDATE projection SET version = $2 WHERE name = $1

-- name: tables_of
-- Every table of a view's versions, whatever left it.
SELECT c.relname FROM pg_class AS c
WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid) AND c.relname ~ ('^' || $1::text || '_v[0-9]+$')

-- name: create_view
CREATE OR REPLACE VIEW {view} AS SELECT * FROM {table}
