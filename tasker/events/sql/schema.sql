-- What the migrations' runner says.

-- name: create_schema_info
CREATE TABLE IF NOT EXISTS schema_info (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    version         integer NOT NULL,
    compatible_from integer NOT NULL
)

-- name: enter_schema_info
INSERT INTO schema_info (version, compatible_from) VALUES (0, 0) ON CONFLICT DO NOTHING

-- name: lock_version
SELECT version, compatible_from FROM schema_info FOR UPDATE

-- name: set_version
UPDATE schema_info SET version = $1, compatible_from = $2

-- name: version
SELECT version, compatible_from FROM schema_info

-- name: has_schema_info
SELECT to_regclass('schema_info') IS NOT NULL

-- name: server_encoding
SELECT current_setting('server_encoding')

-- name: choose
SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS chosen (name, value)
