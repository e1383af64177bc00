-- Giving a log a new id.

-- name: lock_log
-- Before anything else: who acquires shards waits for it, and then sees the new id.
SELECT log_id FROM log FOR UPDATE;

-- name: leased_until
SELECT (extract(epoch FROM max(lease_until)) * 1000000)::bigint
FROM (SELECT lease_until FROM shard_head WHERE owner IS NOT NULL ORDER BY shard FOR UPDATE) AS held
WHERE lease_until > clock_timestamp();

-- name: renew
UPDATE log SET log_id = $1;
