-- Take attempts off the counts of the days they were claimed on: nothing left with them. Counts are locked in
-- the order of their key.
CREATE OR REPLACE FUNCTION give_back_sends(ids uuid[], days date[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    WITH back AS (
        SELECT unsent.day, of.scope, of.subject, count(*) AS number
        FROM unnest(ids, days) AS unsent (id, day)
        JOIN otp_requests AS r ON r.id = unsent.id
        CROSS JOIN LATERAL (
            VALUES ('all', ''), ('client', r.client_id::text), ('country', coalesce(r.country, '001'))
        ) AS of (scope, subject)
        WHERE r.id = ANY (ids) AND NOT r.is_test
        GROUP BY unsent.day, of.scope, of.subject
    ), locked AS MATERIALIZED (
        SELECT c.day, c.scope, c.subject, back.number
        FROM send_counts AS c
        JOIN back ON back.day = c.day AND back.scope = c.scope AND back.subject = c.subject
        ORDER BY c.day, c.scope, c.subject
        FOR UPDATE OF c
    )
    UPDATE send_counts AS c SET taken = greatest(c.taken - locked.number, 0)
    FROM locked WHERE c.day = locked.day AND c.scope = locked.scope AND c.subject = locked.subject;
END
$$
