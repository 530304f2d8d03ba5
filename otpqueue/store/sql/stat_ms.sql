CREATE OR REPLACE FUNCTION stat_ms(began timestamptz, ended timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(round(extract(epoch FROM ended - began) * 1000), 0)::bigint
$$
