-- Rows of the other tables change their counts: an attempt with an expired lease turns out to have sent its
-- code, an undelivered code is delivered. So the event is the difference between before and after. For
-- attempts it covers the whole statement, which records dozens at a time: equal ones share an event. Its
-- requests are looked up one by one: a session keeps a plan made while the table was small, which would read
-- all of it.
CREATE OR REPLACE FUNCTION send_attempts_tell_statistics() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', counted.at), r.client_id, coalesce(r.country, 'ZZ'), a.channel,
           counted.metric, counted.label, counted.also, counted.also_label, sum(a.sign),
           sum(a.sign * counted.total)
    FROM (SELECT 1 AS sign, * FROM new_attempts UNION ALL SELECT -1, * FROM old_attempts) AS a
    JOIN otp_requests AS r ON r.id = a.request_id
    CROSS JOIN LATERAL (
        SELECT coalesce(a.finished_at, a.claimed_at), 'attempts', a.outcome,
               CASE WHEN a.latency_ms IS NOT NULL THEN 'provider_sends' END,
               CASE WHEN a.latency_ms IS NULL THEN NULL
                    WHEN a.http_status = 404 AND (NOT a.retryable OR a.code = 'number_not_found')
                        THEN '404_one'
                    ELSE coalesce(a.http_status::text, 'none') END,
               coalesce(a.latency_ms, 0)::numeric
        WHERE a.outcome IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), 'delivered', '', 'sent_to_delivered',
               stat_bucket(stat_ms(a.finished_at, a.done_at)), stat_ms(a.finished_at, a.done_at)
        WHERE a.delivery = 'delivered' AND a.done_at IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), a.delivery, '', NULL, NULL, 0
        WHERE a.delivery = 'undelivered' OR (a.delivery = 'delivered' AND a.done_at IS NULL)
        UNION ALL
        SELECT coalesce(a.finished_at, a.claimed_at), 'cost', coalesce(a.currency, ''), NULL, NULL, a.price
        WHERE a.price IS NOT NULL
    ) AS counted (at, metric, label, also, also_label, total)
    WHERE NOT r.is_test
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    HAVING sum(a.sign) <> 0 OR sum(a.sign * counted.total) <> 0;
    RETURN NULL;
END
$$
