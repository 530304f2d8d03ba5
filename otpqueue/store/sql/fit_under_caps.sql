-- Find which of the requests that `claim_due` has just counted must stay due or end.
--
-- `rooms` is the room that each cap had before, NULL for no cap. Ranks treat the older requests of the batch as
-- sent, whatever their own fate, so a request that does not fit only stays due. Clients that share a cap take
-- turns in its room: first each client's oldest request, then each one's second. The oldest request of all has
-- rank 1 everywhere, so each claim makes progress.
CREATE OR REPLACE FUNCTION fit_under_caps(
    counted uuid[], scopes text[], subjects text[], rooms bigint[],
    OUT later uuid[], OUT over uuid[]
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    WITH room AS MATERIALIZED (
        SELECT * FROM unnest(scopes, subjects, rooms) AS t (scope, subject, room)
    ), ranked AS (
        SELECT mine.id, mine.client, mine.country, mine.nth_of_client,
               row_number() OVER (ORDER BY mine.nth_of_client, mine.next_attempt_at, mine.id) AS nth,
               row_number() OVER (
                   PARTITION BY mine.country ORDER BY mine.nth_of_client, mine.next_attempt_at, mine.id
               ) AS nth_of_country
        FROM (
            SELECT r.id, r.next_attempt_at, r.client_id::text AS client,
                   coalesce(r.country, '001') AS country,
                   row_number() OVER (PARTITION BY r.client_id ORDER BY r.next_attempt_at, r.id)
                       AS nth_of_client
            FROM otp_requests AS r WHERE r.id = ANY (counted)
        ) AS mine
    ), judged AS (
        SELECT ranked.id,
               least(whole.room, client.room, country.room) <= 0 AS is_over,
               ranked.nth > whole.room OR ranked.nth_of_client > client.room
                   OR ranked.nth_of_country > country.room AS is_later
        FROM ranked
        JOIN room AS whole ON whole.scope = 'all'
        JOIN room AS client ON client.scope = 'client' AND client.subject = ranked.client
        JOIN room AS country ON country.scope = 'country' AND country.subject = ranked.country
    )
    SELECT coalesce(array_agg(id) FILTER (WHERE is_later AND is_over IS NOT TRUE), '{}'),
           coalesce(array_agg(id) FILTER (WHERE is_over), '{}')
    INTO later, over
    FROM judged;
END
$$
