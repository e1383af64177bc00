-- The views that projections keep, and how far each is.
--
-- A view's rows live in a table of a version, `task_v1`; the SQL view `task` names the one that is read. A rebuild
-- fills the next version beside it and switches the view in one transaction. So the tables' one definition is a
-- function of the version; a change of shape is a later migration that replaces the function.
--
-- Fill factors leave room for updates in place (HOT): a step's row has no index on anything that changes.
-- The payloads `input`, `result`, `error` are exact JSON as bytes; JSON that SQL looks into is `json`, which keeps
-- its text, so that a row can be compared with a fold of the log.

CREATE TABLE projection (
    name    text PRIMARY KEY,
    version integer NOT NULL                    -- the one that is read and kept up to date
);

CREATE TABLE checkpoint (
    projection text    NOT NULL,
    version    integer NOT NULL,
    shard      integer NOT NULL,
    position   bigint  NOT NULL,                -- every event up to here is in the rows
    PRIMARY KEY (projection, version, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The pieces between the commas of tags (canonical JSON, so a tag is a piece, or several where its value has commas):
-- a filter asks for the pieces first and then for the tags. The planner keeps statistics of an array's elements, so
-- that it walks a list in its order for a frequent tag and asks the index for a rare one (of jsonb it knows nothing:
-- 400 ms instead of 1 at a million tasks). Without STRICT, so that it is inlined.
CREATE FUNCTION tag_pieces(tags json) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $pieces$
    SELECT string_to_array(btrim(tags::text, '{}'), ',')
$pieces$;

CREATE FUNCTION create_projection_table(name text, version integer) RETURNS void LANGUAGE plpgsql AS $create$
DECLARE
    t text := quote_ident(name || '_v' || version);
BEGIN
    CASE name
    WHEN 'task' THEN
        EXECUTE 'CREATE TABLE ' || t || $ddl$ (
            task_id          uuid    NOT NULL PRIMARY KEY,
            tenant           text    NOT NULL,
            shard            integer NOT NULL,
            namespace        text    NOT NULL,
            template         text    NOT NULL,
            version          text    NOT NULL,
            template_hash    text    NOT NULL,
            input            bytea   NOT NULL,
            restarted_from   uuid,
            idempotency_key  text,
            correlation_id   text,
            requested_by     text,
            reason           text,
            created_at_us    bigint  NOT NULL,
            state            text    NOT NULL,
            seq              bigint  NOT NULL,
            position         bigint  NOT NULL,
            updated_at_us    bigint  NOT NULL,
            ended_at_us      bigint,
            result           bytea,
            error            bytea,
            ending           text,
            blocked_reason   text,
            blocked_detail   text,
            blocked_steps    json,
            steps_dispatched integer NOT NULL,
            steps_completed  integer NOT NULL,
            steps_failed     integer NOT NULL,
            retries          integer NOT NULL,
            poisoned         boolean NOT NULL,
            not_chosen       json,
            tags             json,
            metadata         bytea,
            deadline_us      bigint,
            place_key        text,
            priority         smallint NOT NULL,
            not_before_us    bigint,
            last_input       bytea,
            since_us         bigint
        ) WITH (fillfactor = 70) $ddl$;
        EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, created_at_us, task_id)';
        EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, updated_at_us, task_id)';
        EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, state, created_at_us, task_id)';
        EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, template, created_at_us, task_id)';
        EXECUTE 'CREATE INDEX ON ' || t || ' (restarted_from) WHERE restarted_from IS NOT NULL';
        EXECUTE 'CREATE INDEX ON ' || t || ' USING gin (tag_pieces(tags)) WHERE tags IS NOT NULL';
        EXECUTE 'CREATE STATISTICS ON (tag_pieces(tags)) FROM ' || t; -- the planner takes none from a partial index
    WHEN 'step' THEN
        EXECUTE 'CREATE TABLE ' || t || $ddl$ (
            task_id          uuid    NOT NULL,
            step             text    NOT NULL,
            tenant           text    NOT NULL,
            shard            integer NOT NULL,
            state            text    NOT NULL,
            attempt          integer NOT NULL,
            position         bigint  NOT NULL,
            worker           text,
            dispatched_at_us bigint,
            started_at_us    bigint,
            ended_at_us      bigint,
            retry_at_us      bigint,
            waits            text,
            child            text,
            by_hand          text,
            cancelling       boolean NOT NULL,
            result           bytea,
            error            bytea,
            awaits           text,
            since_us         bigint,
            PRIMARY KEY (task_id, step)
        ) WITH (fillfactor = 70) $ddl$;
        -- Open approvals: few among the steps, in the order of their list, and by whom they ask.
        EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, dispatched_at_us, task_id, step) WHERE waits = ''approval''';
        EXECUTE 'CREATE INDEX ON ' || t || ' USING gin ((awaits::jsonb -> ''asks'')) WHERE waits = ''approval''';
    WHEN 'template' THEN
        EXECUTE 'CREATE TABLE ' || t || $ddl$ (
            stream_id        uuid    NOT NULL,
            version          text    NOT NULL,
            tenant           text    NOT NULL,
            shard            integer NOT NULL,
            namespace        text    NOT NULL,
            name             text    NOT NULL,
            hash             text    NOT NULL,
            registered_at_us bigint  NOT NULL,
            chosen_seq       bigint  NOT NULL,
            position         bigint  NOT NULL,
            PRIMARY KEY (stream_id, version)
        ) $ddl$;
        EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, namespace, name, registered_at_us, version)';
    ELSE
        RAISE EXCEPTION 'there is no projection named %', name;
    END CASE;
END
$create$;

SELECT create_projection_table(name, 1) FROM unnest(ARRAY['task', 'step', 'template']) AS name;
INSERT INTO projection (name, version) VALUES ('task', 1), ('step', 1), ('template', 1);
CREATE VIEW task AS SELECT * FROM task_v1;
CREATE VIEW step AS SELECT * FROM step_v1;
CREATE VIEW template AS SELECT * FROM template_v1;
