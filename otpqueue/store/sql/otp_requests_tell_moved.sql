-- Attempts count what reports say of a request.
CREATE OR REPLACE FUNCTION otp_requests_tell_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'sent' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.sent_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'sent', '', 'accept_to_sent', stat_bucket(ms), 1, ms
        FROM stat_ms(NEW.created_at, coalesce(NEW.sent_at, NEW.updated_at)) AS ms;
    ELSIF NEW.status = 'verified' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.verified_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'verified', '', 'sent_to_verified', stat_bucket(ms),
               1, ms
        FROM stat_ms(coalesce(NEW.sent_at, NEW.created_at), coalesce(NEW.verified_at, NEW.updated_at)) AS ms;
    ELSE
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
        VALUES (date_trunc('minute', coalesce(NEW.finished_at, NEW.updated_at)), NEW.client_id,
                coalesce(NEW.country, 'ZZ'), NEW.channel, NEW.status,
                CASE WHEN NEW.status <> 'expired' OR NEW.sent_at IS NULL THEN coalesce(NEW.reason, '')
                     WHEN NEW.check_number > 0 THEN 'checked' ELSE 'unchecked' END, 1, 0);
    END IF;
    RETURN NULL;
END
$$
