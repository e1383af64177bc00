-- The view of schedules: one row a schedule.
--
-- The function that makes the tables of views is handed on: what it knew before keeps its definition.

ALTER FUNCTION create_projection_table(text, integer) RENAME TO create_projection_table_before_schedules;

CREATE FUNCTION create_projection_table(name text, version integer) RETURNS void LANGUAGE plpgsql AS $create$
DECLARE
    t text := quote_ident(name || '_v' || version);
BEGIN
    IF name <> 'schedule' THEN
        PERFORM create_projection_table_before_schedules(name, version);
        RETURN;
    END IF;
    EXECUTE 'CREATE TABLE ' || t || $ddl$ (
            stream_id     uuid NOT NULL PRIMARY KEY,
            tenant        text NOT NULL,
            shard         integer NOT NULL,
            namespace     text NOT NULL,
            name          text NOT NULL,
            template      text NOT NULL,
            state         text NOT NULL,
            spec          bytea NOT NULL,
            note          text,
            next_us       bigint,
            due_us        bigint,
            fires         bigint NOT NULL,
            skips         bigint NOT NULL,
            refusals      bigint NOT NULL,
            detail        bytea NOT NULL,
            requested_by  text,
            reason        text,
            created_at_us bigint NOT NULL,
            updated_at_us bigint NOT NULL,
            seq           bigint NOT NULL,
            position      bigint NOT NULL,
            poisoned      boolean NOT NULL
        ) WITH (fillfactor = 70) $ddl$;
    EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, namespace, name)';
END
$create$;

SELECT create_projection_table('schedule', 1);
INSERT INTO projection (name, version) VALUES ('schedule', 1);
CREATE VIEW schedule AS SELECT * FROM schedule_v1;
