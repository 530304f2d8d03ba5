-- When the next request that can still be sent falls due, or fell due; null if there is none.
CREATE OR REPLACE FUNCTION next_due(at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    stopped record;
BEGIN
    SELECT * INTO stopped FROM stops_in_force();
    IF stopped.everything THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT r.next_attempt_at
        FROM otp_requests AS r
        WHERE r.send_state = 'due' AND r.send_by > at
          AND r.client_id <> ALL (stopped.clients) AND coalesce(r.country, '001') <> ALL (stopped.countries)
        ORDER BY r.next_attempt_at
        LIMIT 1
    );
END
$$
