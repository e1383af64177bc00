-- What the doctor asks. Nothing here writes.

-- name: server
SELECT current_setting('server_version_num')::integer AS version,
       current_setting('server_version') AS version_text,
       current_setting('server_encoding') AS encoding,
       pg_is_in_recovery() AS standby,
       current_setting('default_transaction_read_only') = 'on' AS read_only,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_database() AS database,
       current_user AS username

-- name: clock
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: connections
-- Our own are those of this database under our name: they are in what we need already.
SELECT current_setting('max_connections')::integer AS allowed,
       current_setting('superuser_reserved_connections')::integer
           + coalesce(current_setting('reserved_connections', true)::integer, 0) AS reserved,
       (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend'
          AND NOT (datname = current_database() AND application_name LIKE 'tasker%')) AS others,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_limit

-- name: privileges
SELECT needed.name, needed.privilege
FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
WHERE to_regclass(needed.name) IS NOT NULL
  AND NOT has_table_privilege(to_regclass(needed.name), needed.privilege)

-- name: partitions
-- The first position that has no partition, and what a partition holds.
SELECT l.partition_size,
       coalesce((SELECT max((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)'))[1]::bigint)
                 FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                 WHERE i.inhparent = to_regclass('event')), 1) AS free_from
FROM log AS l

-- name: heads
SELECT h.shard, coalesce(l.position, 0) AS position, h.lease_until < clock_timestamp() AS unowned,
       coalesce(c.position, 0) AS published, n.at_us AS unpublished_us
FROM shard_head AS h
LEFT JOIN publish_cursor AS c ON c.shard = h.shard
LEFT JOIN LATERAL (
    SELECT e.position FROM event AS e WHERE e.shard = h.shard ORDER BY e.position DESC LIMIT 1
) AS l ON true
LEFT JOIN event AS n ON n.shard = h.shard AND n.position = coalesce(c.position, 0) + 1
ORDER BY h.shard

-- name: due
-- When the earliest was due, of what a row tells the time of.
SELECT min(d.at_us)
FROM shard_head AS h
CROSS JOIN LATERAL (
    SELECT due.at_us FROM due
    WHERE due.shard = h.shard AND split_part(due.obligation, ':', 1) <> ALL ($1::text[])
    ORDER BY due.at_us LIMIT 1
) AS d

-- name: checkpoints
SELECT p.name, h.shard, coalesce(c.position, 0) AS position
FROM projection AS p
CROSS JOIN shard_head AS h
LEFT JOIN checkpoint AS c ON c.projection = p.name AND c.version = p.version AND c.shard = h.shard
