-- Few expressions and no variables: PL/pgSQL prepares each of them again in each transaction.
CREATE OR REPLACE FUNCTION otp_requests_tell_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), NEW.channel,
            'requested', '', 1, 0);
    RETURN NULL;
END
$$
