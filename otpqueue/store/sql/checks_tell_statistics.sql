CREATE OR REPLACE FUNCTION checks_tell_statistics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', coalesce(c.finished_at, c.started_at)), r.client_id,
           coalesce(r.country, 'ZZ'), r.channel, 'checks', c.verdict,
           CASE WHEN c.latency_ms IS NOT NULL THEN 'provider_checks' END,
           CASE WHEN c.latency_ms IS NOT NULL THEN coalesce(c.http_status::text, 'none') END,
           c.sign, c.sign * coalesce(c.latency_ms, 0)
    FROM (
        VALUES (1, NEW.finished_at, NEW.started_at, NEW.verdict, NEW.http_status, NEW.latency_ms),
               (-1, OLD.finished_at, OLD.started_at, OLD.verdict, OLD.http_status, OLD.latency_ms)
    ) AS c (sign, finished_at, started_at, verdict, http_status, latency_ms)
    JOIN otp_requests AS r ON r.id = NEW.request_id
    WHERE c.verdict IS NOT NULL AND NOT r.is_test;
    RETURN NULL;
END
$$
