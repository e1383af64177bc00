-- Giving a log a new id.

-- name: leased_until
SELECT (extract(epoch FROM max(lease_until)) * 1000000)::bigint
FROM (SELECT lease_until FROM shard_head WHERE owner IS NOT NULL ORDER BY shard FOR UPDATE) AS held
WHERE lease_until > clock_timestamp();

-- name: renew
UPDATE log SET log_id = $1 FROM (SELECT log_id AS before FROM log) AS old RETURNING old.before;
