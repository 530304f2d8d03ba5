CREATE OR REPLACE FUNCTION access_version_raise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO access_version AS a (version) VALUES (1)
    ON CONFLICT (one) DO UPDATE SET version = a.version + 1;
    RETURN NULL;
END
$$
