-- Up to `most` clients with due requests, in turn order: by id, starting after the id `after` and wrapping
-- around.
--
-- The query seeks from client to client, so its cost grows with the number of clients with due requests, not
-- with the number of requests. One-value ranges and ORDER BY leave the planner only the intended index,
-- whatever its statistics.
CREATE OR REPLACE FUNCTION due_clients(
    after uuid, most integer, at timestamptz, stopped_clients uuid[], stopped_countries text[]
) RETURNS uuid[] LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
BEGIN
    RETURN ARRAY(
        WITH RECURSIVE following AS (
            (
                SELECT r.client_id FROM otp_requests AS r
                WHERE r.send_state = 'due' AND r.client_id > after
                ORDER BY r.client_id
                LIMIT 1
            )
            UNION ALL
            SELECT next.client_id
            FROM following CROSS JOIN LATERAL (
                SELECT r.client_id FROM otp_requests AS r
                WHERE r.send_state = 'due' AND r.client_id > following.client_id
                ORDER BY r.client_id
                LIMIT 1
            ) AS next
        ), wrapped AS (
            (
                SELECT r.client_id FROM otp_requests AS r
                WHERE r.send_state = 'due' AND r.client_id <= after
                ORDER BY r.client_id
                LIMIT 1
            )
            UNION ALL
            SELECT next.client_id
            FROM wrapped CROSS JOIN LATERAL (
                SELECT r.client_id FROM otp_requests AS r
                WHERE r.send_state = 'due' AND r.client_id > wrapped.client_id AND r.client_id <= after
                ORDER BY r.client_id
                LIMIT 1
            ) AS next
        )
        SELECT ring.client_id
        FROM (
            SELECT following.client_id FROM following UNION ALL SELECT wrapped.client_id FROM wrapped
        ) AS ring
        WHERE ring.client_id <> ALL (stopped_clients)
          -- Subqueries with LIMIT: as joins they could read all requests.
          AND CASE WHEN stopped_countries = '{}' THEN (
                  SELECT true FROM otp_requests AS r
                  WHERE r.send_state = 'due' AND r.client_id >= ring.client_id AND r.client_id <= ring.client_id
                    AND r.next_attempt_at <= at AND r.next_attempt_at > at - interval '600 s'
                    AND r.send_by > at
                  ORDER BY r.client_id, r.next_attempt_at
                  LIMIT 1
              ) ELSE (
                  SELECT true FROM due_countries(ring.client_id, at, stopped_countries) LIMIT 1
              ) END
        LIMIT most
    );
END
$$
