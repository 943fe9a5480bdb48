-- What the stand-in keeps in the database behind it: set up at every start, and left in place.

CREATE SCHEMA IF NOT EXISTS redshift_standin;
GRANT USAGE ON SCHEMA redshift_standin TO PUBLIC;

-- What PostgreSQL does not know of a table, by its object identifier, and of its columns, by their numbers.
CREATE TABLE IF NOT EXISTS redshift_standin.tables (
    relation oid PRIMARY KEY,
    diststyle text NOT NULL,
    sortstyle text NOT NULL
);
CREATE TABLE IF NOT EXISTS redshift_standin.columns (
    relation oid,
    number smallint,
    type text NOT NULL,
    encoding text NOT NULL,
    distkey boolean NOT NULL,
    sortkey integer NOT NULL,
    PRIMARY KEY (relation, number)
);
-- Primary, unique and foreign keys, which are not enforced.
CREATE TABLE IF NOT EXISTS redshift_standin.constraints (
    relation oid,
    name text,
    kind text NOT NULL,
    columns text[] NOT NULL,
    PRIMARY KEY (relation, name)
);
-- Names that are longer than PostgreSQL's may be.
CREATE TABLE IF NOT EXISTS redshift_standin.names (stored text PRIMARY KEY, name text NOT NULL);
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA redshift_standin TO PUBLIC;

CREATE OR REPLACE FUNCTION redshift_standin.name_of(stored name) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT n.name FROM redshift_standin.names n WHERE n.stored = $1::text), $1::text)
$$;

CREATE OR REPLACE FUNCTION redshift_standin.version() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC, Redshift 1.0.0 (stand-in)'::text
$$;

CREATE OR REPLACE FUNCTION redshift_standin.too_long(type text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '22001', MESSAGE = 'value too long for type ' || type;
END
$$;

-- Those who may only insert may not lock a table in this mode themselves.
CREATE OR REPLACE FUNCTION redshift_standin.lock_for_writing(relation oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation::regclass);
END
$$;

CREATE OR REPLACE FUNCTION redshift_standin.getdate() RETURNS timestamp LANGUAGE sql STABLE AS $$
    SELECT date_trunc('second', statement_timestamp())::timestamp
$$;

CREATE OR REPLACE FUNCTION redshift_standin.sysdate() RETURNS timestamp LANGUAGE sql STABLE AS $$
    SELECT now()::timestamp
$$;

CREATE OR REPLACE FUNCTION redshift_standin.len(value text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT length(value) $$;
CREATE OR REPLACE FUNCTION redshift_standin.len(value bytea) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT octet_length(value) $$;

CREATE OR REPLACE FUNCTION redshift_standin.from_hex(value text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT decode(value, 'hex') $$;
CREATE OR REPLACE FUNCTION redshift_standin.to_hex(value bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT encode(value, 'hex') $$;
CREATE OR REPLACE FUNCTION redshift_standin.to_hex(value text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT encode(convert_to(value, 'UTF8'), 'hex') $$;
CREATE OR REPLACE FUNCTION redshift_standin.to_hex(value bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT pg_catalog.to_hex(value) $$;

CREATE OR REPLACE FUNCTION redshift_standin.to_varbyte(value text, format text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE lower(format)
        WHEN 'hex' THEN decode(value, 'hex')
        WHEN 'base64' THEN decode(value, 'base64')
        ELSE convert_to(value, 'UTF8')
    END
$$;

CREATE OR REPLACE FUNCTION redshift_standin.json_parse(value text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    parsed jsonb;
BEGIN
    IF octet_length(value) > 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = 'XX000',
            MESSAGE = 'JSON_PARSE: the input of ' || octet_length(value) || ' bytes exceeds the limit of 1048576';
    END IF;
    BEGIN
        parsed := value::jsonb;
    EXCEPTION WHEN OTHERS THEN
        RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = 'JSON parsing error',
            DETAIL = 'Value: ' || left(value, 100) || ' (' || SQLERRM || ')';
    END;
    IF octet_length(value) > 65535 AND EXISTS (
        SELECT FROM jsonb_path_query(parsed, 'strict $.** ? (@.type() == "string")') text
        WHERE octet_length(text #>> '{}') > 65535
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'XX000',
            MESSAGE = 'String value exceeds the max size of 65535 bytes';
    END IF;
    IF octet_length(value) > 2000 AND jsonb_path_exists(
        parsed, 'strict $.**{1000 to last} ? (@.type() == "object" || @.type() == "array")'
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = 'Nesting depth exceeds the limit of 1000';
    END IF;
    RETURN parsed;
END
$$;
CREATE OR REPLACE FUNCTION redshift_standin.json_parse(value bytea) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT redshift_standin.json_parse(convert_from(value, 'UTF8')) $$;

CREATE OR REPLACE FUNCTION redshift_standin.json_serialize(value jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF octet_length(value::text) > 65535 THEN
        RAISE EXCEPTION USING ERRCODE = 'XX000',
            MESSAGE = 'The result of JSON_SERIALIZE exceeds the max size of 65535 bytes';
    END IF;
    RETURN value::text;
END
$$;
CREATE OR REPLACE FUNCTION redshift_standin.json_serialize_to_varbyte(value jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT convert_to(value::text, 'UTF8') $$;
CREATE OR REPLACE FUNCTION redshift_standin.json_typeof(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT jsonb_typeof(value) $$;

-- Readable tables, those of the stand-in and of PostgreSQL left out.
CREATE OR REPLACE VIEW redshift_standin.relations AS
    SELECT c.oid AS relation, n.nspname, c.relname, c.relkind, c.relowner, c.reltuples
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'redshift_standin', 'pg_toast')
        AND has_schema_privilege(n.oid, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE');

CREATE OR REPLACE VIEW redshift_standin.svv_columns AS
    SELECT
        current_database()::text AS table_catalog,
        redshift_standin.name_of(r.nspname) AS table_schema,
        redshift_standin.name_of(r.relname) AS table_name,
        redshift_standin.name_of(a.attname) AS column_name,
        (row_number() OVER (PARTITION BY r.relation ORDER BY a.attnum))::integer AS ordinal_position,
        pg_get_expr(d.adbin, d.adrelid) AS column_default,
        CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END AS is_nullable,
        CASE a.atttypid
            WHEN 'jsonb'::regtype THEN 'super'
            WHEN 'bytea'::regtype THEN 'binary varying'
            ELSE format_type(a.atttypid, NULL)
        END AS data_type,
        CASE
            WHEN a.atttypid = 'bytea'::regtype THEN substring(k.type FROM '[0-9]+')::integer
            WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) THEN nullif(a.atttypmod, -1) - 4
        END AS character_maximum_length,
        CASE a.atttypid
            WHEN 'smallint'::regtype THEN 16
            WHEN 'integer'::regtype THEN 32
            WHEN 'bigint'::regtype THEN 64
            WHEN 'real'::regtype THEN 24
            WHEN 'double precision'::regtype THEN 53
            WHEN 'numeric'::regtype THEN (nullif(a.atttypmod, -1) - 4) >> 16
        END AS numeric_precision,
        CASE a.atttypid
            WHEN 'smallint'::regtype THEN 0
            WHEN 'integer'::regtype THEN 0
            WHEN 'bigint'::regtype THEN 0
            WHEN 'numeric'::regtype THEN (nullif(a.atttypmod, -1) - 4) & 65535
        END AS numeric_scale,
        col_description(r.relation, a.attnum) AS remarks
    FROM redshift_standin.relations r
    JOIN pg_attribute a ON a.attrelid = r.relation AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN redshift_standin.columns k ON k.relation = a.attrelid AND k.number = a.attnum;

CREATE OR REPLACE VIEW redshift_standin.svv_tables AS
    SELECT
        current_database()::text AS table_catalog,
        redshift_standin.name_of(nspname) AS table_schema,
        redshift_standin.name_of(relname) AS table_name,
        CASE
            WHEN relkind = 'v' THEN 'VIEW'
            WHEN nspname LIKE 'pg\_temp\_%' THEN 'LOCAL TEMPORARY'
            ELSE 'BASE TABLE'
        END AS table_type,
        obj_description(relation, 'pg_class') AS remarks
    FROM redshift_standin.relations;

CREATE OR REPLACE VIEW redshift_standin.svv_table_info AS
    SELECT
        current_database()::text AS database,
        redshift_standin.name_of(r.nspname) AS schema,
        r.relation AS table_id,
        redshift_standin.name_of(r.relname) AS "table",
        CASE t.diststyle
            WHEN 'KEY' THEN 'KEY(' || (
                SELECT redshift_standin.name_of(a.attname)
                FROM redshift_standin.columns k
                JOIN pg_attribute a ON a.attrelid = k.relation AND a.attnum = k.number
                WHERE k.relation = r.relation AND k.distkey
            ) || ')'
            WHEN 'AUTO' THEN 'AUTO(ALL)'
            ELSE t.diststyle
        END AS diststyle,
        CASE t.sortstyle WHEN 'AUTO' THEN 'AUTO(SORTKEY)' ELSE (
            SELECT redshift_standin.name_of(a.attname)
            FROM redshift_standin.columns k
            JOIN pg_attribute a ON a.attrelid = k.relation AND a.attnum = k.number
            WHERE k.relation = r.relation AND abs(k.sortkey) = 1
        ) END AS sortkey1,
        (
            SELECT count(*) FROM redshift_standin.columns k
            JOIN pg_attribute a ON a.attrelid = k.relation AND a.attnum = k.number
            WHERE k.relation = r.relation AND k.sortkey <> 0 AND NOT a.attisdropped
        )::integer AS sortkey_num,
        greatest(r.reltuples, 0)::numeric AS tbl_rows
    FROM redshift_standin.relations r
    JOIN redshift_standin.tables t USING (relation);

CREATE OR REPLACE VIEW redshift_standin.pg_table_def AS
    SELECT
        redshift_standin.name_of(r.nspname) AS schemaname,
        redshift_standin.name_of(r.relname) AS tablename,
        redshift_standin.name_of(a.attname) AS "column",
        CASE a.atttypid
            WHEN 'jsonb'::regtype THEN 'super'
            WHEN 'bytea'::regtype THEN replace(k.type, 'varbyte', 'binary varying')
            ELSE format_type(a.atttypid, a.atttypmod)
        END AS type,
        CASE k.encoding WHEN 'raw' THEN 'none' ELSE k.encoding END AS encoding,
        k.distkey,
        k.sortkey,
        a.attnotnull AS notnull
    FROM redshift_standin.relations r
    JOIN pg_attribute a ON a.attrelid = r.relation AND NOT a.attisdropped
    JOIN redshift_standin.columns k ON k.relation = a.attrelid AND k.number = a.attnum
    WHERE pg_table_is_visible(r.relation);

GRANT SELECT ON ALL TABLES IN SCHEMA redshift_standin TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA redshift_standin TO PUBLIC;
