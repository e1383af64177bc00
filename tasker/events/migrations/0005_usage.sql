-- The view `usage`: a row a meter of a step (of one model, unit, currency and version of prices).
--
-- Amounts and costs are decimal text, as the log has them; sums are made in `numeric`, which is exact.
--
-- The function that makes a view's table is replaced by one that knows one view more and hands the others on.

ALTER FUNCTION create_projection_table(text, integer) RENAME TO create_projection_table_before_usage;

CREATE FUNCTION create_projection_table(name text, version integer) RETURNS void LANGUAGE plpgsql AS $create$
DECLARE
    t text := quote_ident(name || '_v' || version);
BEGIN
    IF name <> 'usage' THEN
        PERFORM create_projection_table_before_usage(name, version);
        RETURN;
    END IF;
    EXECUTE 'CREATE TABLE ' || t || $ddl$ (
        task_id  uuid    NOT NULL,
        line     text    NOT NULL,
        tenant   text    NOT NULL,
        shard    integer NOT NULL,
        step     text    NOT NULL,
        meter    text    NOT NULL,
        unit     text    NOT NULL,
        model    text    NOT NULL,
        currency text    NOT NULL,
        prices   text    NOT NULL,
        amount   text    NOT NULL,
        cost     text,
        attempts integer NOT NULL,
        position bigint  NOT NULL,
        PRIMARY KEY (task_id, line)
    ) WITH (fillfactor = 70) $ddl$;
    EXECUTE 'CREATE INDEX ON ' || t || ' (tenant)';
END
$create$;

SELECT create_projection_table('usage', 1);
INSERT INTO projection (name, version) VALUES ('usage', 1);
CREATE VIEW usage AS SELECT * FROM usage_v1;
