CREATE OR REPLACE FUNCTION refusals_tell_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count, 0);
    RETURN NULL;
END
$$
