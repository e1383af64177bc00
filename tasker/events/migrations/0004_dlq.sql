-- The view `dlq`: tasks and steps that need somebody's attention, with what people do about them.
--
-- The function that makes a view's table is replaced by one that knows one view more and hands the others on.
--
-- What is open is listed by the first index alone, however much has been settled by now.

ALTER FUNCTION create_projection_table(text, integer) RENAME TO create_projection_table_before_dlq;

CREATE FUNCTION create_projection_table(name text, version integer) RETURNS void LANGUAGE plpgsql AS $create$
DECLARE
    t text := quote_ident(name || '_v' || version);
BEGIN
    IF name <> 'dlq' THEN
        PERFORM create_projection_table_before_dlq(name, version);
        RETURN;
    END IF;
    EXECUTE 'CREATE TABLE ' || t || $ddl$ (
        task_id        uuid    NOT NULL,
        step           text    NOT NULL,
        of_step        text    NOT NULL,
        tenant         text    NOT NULL,
        shard          integer NOT NULL,
        first_us       bigint  NOT NULL,
        state          text    NOT NULL,
        status         text    NOT NULL,
        reason         text    NOT NULL,
        error_type     text    NOT NULL,
        message        text    NOT NULL,
        fingerprint    text    NOT NULL,
        pattern        text    NOT NULL,
        attempt        integer NOT NULL,
        failures       integer NOT NULL,
        last_us        bigint  NOT NULL,
        position       bigint  NOT NULL,
        owner          text,
        notes          bytea,
        notes_count    integer NOT NULL,
        settled_by     text,
        settled_reason text,
        settled_us     bigint,
        left_how       text,
        left_us        bigint,
        PRIMARY KEY (task_id, step)
    ) $ddl$;
    EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, last_us, task_id, step) '
            || $where$ WHERE state <> 'left' AND status IN ('open', 'investigating') $where$;
    EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, last_us, task_id, step)';
    EXECUTE 'CREATE INDEX ON ' || t || ' (tenant, fingerprint, last_us, task_id, step)';
END
$create$;

SELECT create_projection_table('dlq', 1);
INSERT INTO projection (name, version) VALUES ('dlq', 1);
CREATE VIEW dlq AS SELECT * FROM dlq_v1;
