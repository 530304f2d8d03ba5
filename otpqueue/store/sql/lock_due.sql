-- Lock up to `quota` due requests of each of these clients, oldest first, and up to `most` in all, client by
-- client in the given order. Skips requests in `locked` and those that another session has locked.
--
-- No request is due for more than 600 s before its deadline (the maximum of OTPQUEUE_SEND_WITHIN_S). Older ones
-- have expired, and the index skips them however many wait for the sweep.
--
-- While sending to some countries is stopped, the oldest requests are found country by country, so that stopped
-- ones are not read. One-value ranges and ORDER BY leave the planner only the intended index, whatever its
-- statistics. Four times the quota are found first, since other claims may have locked some.
CREATE OR REPLACE FUNCTION lock_due(
    of_clients uuid[], quota integer, most integer, locked uuid[], at timestamptz, stopped_countries text[]
) RETURNS TABLE (id uuid, client_id uuid, country text, is_test boolean, blocked boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
#variable_conflict use_column
BEGIN
    IF stopped_countries = '{}' THEN
        RETURN QUERY
        SELECT due.id, due.client_id, due.country, due.is_test, coalesce((
                   SELECT true FROM do_not_send AS d
                   WHERE d.number_hash = due.number_hash AND (d.until IS NULL OR d.until > at)
                   LIMIT 1
               ), false)
        FROM unnest(of_clients) AS one (client) CROSS JOIN LATERAL (
            SELECT r.id, r.client_id, coalesce(r.country, '001') AS country, r.is_test, r.number_hash
            FROM otp_requests AS r
            WHERE r.send_state = 'due' AND r.client_id >= one.client AND r.client_id <= one.client
              AND r.next_attempt_at <= at AND r.next_attempt_at > at - interval '600 s' AND r.send_by > at
              AND r.id <> ALL (locked)
            ORDER BY r.client_id, r.next_attempt_at
            LIMIT quota
            FOR NO KEY UPDATE OF r SKIP LOCKED
        ) AS due
        LIMIT most;
    ELSE
        RETURN QUERY
        SELECT due.id, due.client_id, due.country, due.is_test, coalesce((
                   SELECT true FROM do_not_send AS d
                   WHERE d.number_hash = due.number_hash AND (d.until IS NULL OR d.until > at)
                   LIMIT 1
               ), false)
        FROM unnest(of_clients) AS one (client) CROSS JOIN LATERAL (
            SELECT mine.*
            FROM (
                SELECT of_country.id, of_country.next_attempt_at
                FROM due_countries(one.client, at, stopped_countries) AS named (country) CROSS JOIN LATERAL (
                    SELECT r.id, r.next_attempt_at FROM otp_requests AS r
                    WHERE r.send_state = 'due'
                      AND (r.client_id, coalesce(r.country, '001')) >= (one.client, named.country)
                      AND (r.client_id, coalesce(r.country, '001')) <= (one.client, named.country)
                      AND r.next_attempt_at <= at AND r.next_attempt_at > at - interval '600 s'
                      AND r.send_by > at AND r.id <> ALL (locked)
                    ORDER BY r.client_id, coalesce(r.country, '001'), r.next_attempt_at
                    LIMIT 4 * quota
                ) AS of_country
                ORDER BY of_country.next_attempt_at
                LIMIT 4 * quota
            ) AS found CROSS JOIN LATERAL (
                -- Only due requests have a `next_attempt_at`.
                SELECT r.id, r.client_id, coalesce(r.country, '001') AS country, r.is_test, r.number_hash
                FROM otp_requests AS r
                WHERE r.id = found.id AND r.next_attempt_at <= at
                FOR NO KEY UPDATE OF r SKIP LOCKED
            ) AS mine
            LIMIT quota
        ) AS due
        LIMIT most;
    END IF;
END
$$
