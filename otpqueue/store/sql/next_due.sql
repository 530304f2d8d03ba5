-- When the next request that can still be sent falls due, or fell due; NULL if there is none.
--
-- While sending is stopped for some clients or countries, it seeks from client to client and country to
-- country, so that stopped requests are not read.
CREATE OR REPLACE FUNCTION next_due(at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
    stopped record;
BEGIN
    SELECT * INTO stopped FROM stops_in_force();
    IF stopped.everything THEN
        RETURN NULL;
    END IF;
    IF stopped.clients = '{}' AND stopped.countries = '{}' THEN
        RETURN (
            SELECT r.next_attempt_at
            FROM otp_requests AS r
            WHERE r.send_state = 'due' AND r.next_attempt_at > at - interval '600 s' AND r.send_by > at
            ORDER BY r.next_attempt_at
            LIMIT 1
        );
    END IF;
    RETURN (
        WITH RECURSIVE pairs AS (
            (
                SELECT r.client_id, coalesce(r.country, '001') AS country
                FROM otp_requests AS r
                WHERE r.send_state = 'due'
                ORDER BY r.client_id, coalesce(r.country, '001')
                LIMIT 1
            )
            UNION ALL
            SELECT next.client_id, next.country
            FROM pairs CROSS JOIN LATERAL (
                SELECT r.client_id, coalesce(r.country, '001') AS country
                FROM otp_requests AS r
                WHERE r.send_state = 'due'
                  AND (r.client_id, coalesce(r.country, '001')) > (pairs.client_id, pairs.country)
                ORDER BY r.client_id, coalesce(r.country, '001')
                LIMIT 1
            ) AS next
        )
        SELECT min(first.next_attempt_at)
        FROM pairs CROSS JOIN LATERAL (
            SELECT r.next_attempt_at
            FROM otp_requests AS r
            WHERE r.send_state = 'due'
              AND (r.client_id, coalesce(r.country, '001')) >= (pairs.client_id, pairs.country)
              AND (r.client_id, coalesce(r.country, '001')) <= (pairs.client_id, pairs.country)
              AND r.next_attempt_at > at - interval '600 s' AND r.send_by > at
            ORDER BY r.client_id, coalesce(r.country, '001'), r.next_attempt_at
            LIMIT 1
        ) AS first
        WHERE pairs.client_id <> ALL (stopped.clients) AND pairs.country <> ALL (stopped.countries)
    );
END
$$
