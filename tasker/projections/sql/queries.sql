-- Reads of the views. Parameters that are NULL filter nothing: plans are made for the values at hand, so what is
-- constant folds away and the indexes serve what is left.

-- name: positions
SELECT c.shard, min(c.position)
FROM projection AS p JOIN checkpoint AS c ON c.projection = p.name AND c.version = p.version
GROUP BY c.shard

-- name: task
SELECT * FROM task WHERE task_id = $2 AND tenant = $1

-- name: restarts
SELECT task_id FROM task WHERE restarted_from = $2 AND tenant = $1 ORDER BY created_at_us, task_id

-- name: tasks_matching
-- The CASE hides an operator of whose selectivity the planner has no idea, beside one of which it has a good one.
FROM task
WHERE tenant = $1
  AND ($2::text[] IS NULL OR state = ANY ($2))
  AND ($3::text IS NULL OR namespace = $3)
  AND ($4::text IS NULL OR template = $4)
  AND ($5::text IS NULL OR (tags IS NOT NULL AND tag_pieces(tags) @> tag_pieces($5::text::json)
                             AND CASE WHEN tags::jsonb @> $5::text::jsonb THEN true ELSE false END))
  AND ($6::bigint IS NULL OR created_at_us >= $6)
  AND ($7::bigint IS NULL OR created_at_us < $7)
  AND ($8::text IS NULL OR namespace <> $8)

-- name: tasks
SELECT *
{matching}
  AND ($9::bigint IS NULL OR {keyset})
ORDER BY {order}
LIMIT $11

-- name: count_tasks
SELECT count(*)
{matching}

-- name: open_steps
-- A few steps of each task that have begun and not ended.
SELECT asked.task_id, s.step, s.state, s.attempt, s.since_us, s.worker, s.retry_at_us, s.waits, s.awaits, s.child,
       s.cancelling
FROM unnest($1::uuid[]) AS asked (task_id)
CROSS JOIN LATERAL (
    SELECT * FROM step
    WHERE step.task_id = asked.task_id AND step.state IN ('dispatched', 'running', 'waiting')
      AND step.waits IS DISTINCT FROM 'items' -- its items tell more
    ORDER BY step.step LIMIT $2
) AS s

-- name: steps
SELECT * FROM step WHERE task_id = $2 AND tenant = $1 AND step = ANY ($3::text[])

-- name: instances
-- What a task has begun beside the steps named: visits of loops and items of lists, a page at a time.
SELECT * FROM step
WHERE task_id = $2 AND tenant = $1 AND step <> ALL ($3::text[]) AND step COLLATE "C" > $4
ORDER BY step COLLATE "C" LIMIT $5

-- name: open_instances
-- Of the same those that are open, longest first, then those that failed; of names that begin with $4.
SELECT * FROM step
WHERE task_id = $2 AND tenant = $1 AND step <> ALL ($3::text[]) AND starts_with(step, $4)
  AND (ended_at_us IS NULL OR state = 'failed')
ORDER BY state = 'failed', since_us, step COLLATE "C" LIMIT $5

-- name: newest_visits
SELECT DISTINCT ON (split_part(step, '#', 1)) * FROM step
WHERE task_id = $2 AND tenant = $1 AND step ~ '^[^#]+#[0-9]+$'
ORDER BY split_part(step, '#', 1), split_part(step, '#', 2)::bigint DESC

-- name: approvals
-- `asks` holds whom an approval asks: p: and a person, r: and a role, or * for everybody.
-- As with dead letters, each finds its task.
SELECT s.task_id, s.step, s.attempt, s.shard, s.position, s.dispatched_at_us, s.awaits, t.namespace, t.template
FROM step AS s CROSS JOIN LATERAL (SELECT namespace, template FROM task WHERE task.task_id = s.task_id OFFSET 0) AS t
WHERE s.tenant = $1 AND s.waits = 'approval'
  AND ($2::text[] IS NULL OR s.awaits::jsonb -> 'asks' ?| $2)
  AND ($3::text IS NULL OR t.namespace = $3)
  AND ($4::text IS NULL OR t.template = $4)
  AND ($5::bigint IS NULL OR (s.dispatched_at_us, s.task_id, s.step) > ($5, $6, $7))
ORDER BY s.dispatched_at_us, s.task_id, s.step
LIMIT $8

-- name: templates
SELECT t.*, t.chosen_seq = (SELECT max(o.chosen_seq) FROM template AS o WHERE o.stream_id = t.stream_id) AS in_use
FROM template AS t
WHERE t.tenant = $1
  AND ($2::text IS NULL OR t.namespace = $2)
  AND ($3::text IS NULL OR t.name = $3)
  AND ($4::text IS NULL OR (t.namespace, t.name, t.registered_at_us, t.version) > ($4, $5, $6, $7))
ORDER BY t.namespace, t.name, t.registered_at_us, t.version
LIMIT $8

-- name: template
SELECT t.*, t.chosen_seq = (SELECT max(o.chosen_seq) FROM template AS o WHERE o.stream_id = t.stream_id) AS in_use
FROM template AS t
WHERE t.stream_id = $1 AND t.tenant = $2 AND ($3::text IS NULL OR t.version = $3)
ORDER BY t.chosen_seq DESC
LIMIT 1

-- name: counts
SELECT state, count(*) FROM task WHERE tenant = $1 GROUP BY state

-- name: open_counts
-- Of all tenants, from an index alone.
SELECT state, count(*) FROM task
WHERE state IN ('pending', 'running', 'blocked', 'compensating', 'paused') GROUP BY state

-- name: in_flight
-- From the running tasks, which are few and found by index, never from all steps.
SELECT t.namespace, t.template, s.state, count(*),
       greatest(0, extract(epoch FROM clock_timestamp()) - min(s.dispatched_at_us) / 1e6)::float8
FROM task AS t JOIN step AS s ON s.task_id = t.task_id
WHERE t.state IN ('running', 'compensating') AND s.state IN ('dispatched', 'running', 'waiting')
GROUP BY t.namespace, t.template, s.state

-- name: places
SELECT task_id, tenant, namespace, template FROM task WHERE task_id = ANY ($1::uuid[])

-- name: schedules
-- Deleted ones are shown only to who asks for them.
SELECT * FROM schedule
WHERE tenant = $1
  AND CASE WHEN $2::text[] IS NULL THEN state <> 'deleted' ELSE state = ANY ($2) END
  AND ($3::text IS NULL OR namespace = $3)
  AND ($4::text IS NULL OR template = $4)
  AND ($5::text IS NULL OR (namespace, name) > ($5, $6))
ORDER BY namespace, name
LIMIT $7

-- name: schedule
SELECT * FROM schedule WHERE stream_id = $1 AND tenant = $2
-- name: usage
-- Totals by tenant, template, step (with its items and visits) or task ($2); `numeric` adds decimal text up exactly. The order is that of the bytes,
-- whatever the database's own is.
SELECT one.namespace, one.template, one.task_id, one.step, one.model, one.meter, one.unit, one.currency,
       trim_scale(sum(one.amount::numeric))::text AS amount, trim_scale(sum(one.cost::numeric))::text AS cost,
       sum(one.attempts)::bigint AS attempts,
       coalesce(array_agg(DISTINCT one.prices) FILTER (WHERE one.prices <> ''), '{}') AS prices
FROM (
    SELECT CASE $2::text WHEN 'tenant' THEN '' ELSE t.namespace END COLLATE "C" AS namespace,
           CASE $2 WHEN 'tenant' THEN '' ELSE t.template END COLLATE "C" AS template,
           CASE $2 WHEN 'task' THEN u.task_id::text ELSE '' END COLLATE "C" AS task_id,
           CASE $2 WHEN 'step' THEN substring(u.step FROM '^[a-z][a-z0-9_-]*') ELSE '' END COLLATE "C" AS step,
           u.model COLLATE "C" AS model, u.meter COLLATE "C" AS meter, u.unit COLLATE "C" AS unit,
           u.currency COLLATE "C" AS currency, u.amount, u.cost, u.attempts, u.prices COLLATE "C" AS prices
    FROM usage AS u JOIN task AS t ON t.task_id = u.task_id
    WHERE u.tenant = $1
      AND ($3::uuid IS NULL OR u.task_id = $3)
      AND ($4::text IS NULL OR t.namespace = $4)
      AND ($5::text IS NULL OR t.template = $5)
      AND ($6::text IS NULL OR u.model = $6)
) AS one
WHERE $7::text IS NULL OR (one.namespace, one.template, one.task_id, one.step, one.model, one.meter, one.unit,
                           one.currency) > ($7, $8::text, $9::text, $10::text, $11::text, $12::text, $13::text, $14::text)
GROUP BY one.namespace, one.template, one.task_id, one.step, one.model, one.meter, one.unit, one.currency
ORDER BY one.namespace, one.template, one.task_id, one.step, one.model, one.meter, one.unit, one.currency
LIMIT $15
