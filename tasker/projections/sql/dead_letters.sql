-- Reads of dead letters. Parameters that are NULL filter nothing, as in queries.sql. `{which}` is `true`, or word for
-- word the condition of the index of what is open.

-- name: open
d.state <> 'left' AND d.status IN ('open', 'investigating')

-- name: matching
-- The tags are looked into behind the other filters: dead letters are few. Each finds its task (OFFSET keeps it so): a
-- burst of them, of which the statistics know nothing yet, would be looked through anew for each task of its template.
FROM dlq AS d
CROSS JOIN LATERAL (
    SELECT namespace, template, version, state, tags FROM task WHERE task.task_id = d.task_id OFFSET 0
) AS t
WHERE d.tenant = $1 AND {which}
  AND ($2::text[] IS NULL OR d.state = ANY ($2))
  AND ($3::text[] IS NULL OR d.status = ANY ($3))
  AND ($4::text[] IS NULL OR d.reason = ANY ($4))
  AND ($5::text IS NULL OR t.namespace = $5)
  AND ($6::text IS NULL OR t.template = $6)
  AND ($7::text IS NULL OR d.of_step = $7)
  AND ($8::text IS NULL OR d.fingerprint = $8)
  AND ($9::text IS NULL OR d.owner = $9)
  AND ($10::text IS NULL OR t.tags::jsonb @> $10::text::jsonb)
  AND ($11::bigint IS NULL OR d.last_us >= $11)
  AND ($12::bigint IS NULL OR d.last_us < $12)
  AND ($13::uuid IS NULL OR d.task_id = $13)

-- name: page
SELECT d.*, t.namespace, t.template, t.version, t.state AS task_state, t.tags
{matching}
  AND ($14::bigint IS NULL OR (d.last_us, d.task_id, d.step) < ($14, $15, $16))
ORDER BY d.last_us DESC, d.task_id DESC, d.step DESC
LIMIT $17

-- name: groups
SELECT * FROM (
    SELECT d.fingerprint, min(d.error_type) AS error_type,
           min(d.of_step) AS step, min(d.pattern) AS pattern,
           count(*) AS count, sum(d.failures)::bigint AS failures, min(d.first_us) AS first_us,
           max(d.last_us) AS last_us, min(d.task_id::text) AS task_id
    {matching}
    GROUP BY d.fingerprint
) AS g
WHERE $14::bigint IS NULL OR (g.count, g.fingerprint) < ($14, $15::text)
ORDER BY g.count DESC, g.fingerprint DESC
LIMIT $16

-- name: open_counts
-- Of all tenants.
SELECT d.status, count(*) FROM dlq AS d WHERE {which} GROUP BY d.status

-- name: count
SELECT count(*) {matching}
