-- The countries for which a client has due requests, without the stopped ones.
--
-- The query seeks from country to country, so its cost does not grow with the number of requests. One-value
-- ranges and ORDER BY leave the planner only the intended index, whatever its statistics.
CREATE OR REPLACE FUNCTION due_countries(of_client uuid, at timestamptz, stopped_countries text[])
RETURNS SETOF text LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE named AS (
        (
            SELECT coalesce(r.country, '001') AS country
            FROM otp_requests AS r
            WHERE r.send_state = 'due' AND r.client_id >= of_client AND r.client_id <= of_client
            ORDER BY r.client_id, coalesce(r.country, '001')
            LIMIT 1
        )
        UNION ALL
        SELECT next.country
        FROM named CROSS JOIN LATERAL (
            SELECT coalesce(r.country, '001') AS country
            FROM otp_requests AS r
            WHERE r.send_state = 'due' AND r.client_id <= of_client
              AND (r.client_id, coalesce(r.country, '001')) > (of_client, named.country)
            ORDER BY r.client_id, coalesce(r.country, '001')
            LIMIT 1
        ) AS next
    )
    SELECT named.country
    FROM named CROSS JOIN LATERAL (
        SELECT FROM otp_requests AS r
        WHERE r.send_state = 'due' AND (r.client_id, coalesce(r.country, '001')) >= (of_client, named.country)
          AND (r.client_id, coalesce(r.country, '001')) <= (of_client, named.country)
          AND r.next_attempt_at <= at AND r.next_attempt_at > at - interval '600 s' AND r.send_by > at
        ORDER BY r.client_id, coalesce(r.country, '001'), r.next_attempt_at
        LIMIT 1
    ) AS live
    WHERE named.country <> ALL (stopped_countries);
END
$$
