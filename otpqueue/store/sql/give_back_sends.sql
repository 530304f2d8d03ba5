-- Subtract attempts with which nothing was sent from the counts of the days on which they were claimed.
--
-- The subtractions are summed, below zero, in rows that no claim locks: shards -1 to -8, one for each session.
-- A session locks these rows before all other counts, in key order. Days with purged counts are skipped.
CREATE OR REPLACE FUNCTION give_back_sends(ids uuid[], days date[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO send_counts AS c (day, scope, subject, shard, taken)
    SELECT back.day, back.scope, back.subject, -1 - mod(pg_backend_pid(), 8), -back.number
    FROM (
        SELECT unsent.day, of.scope, of.subject, count(*) AS number
        FROM unnest(ids, days) AS unsent (id, day)
        JOIN otp_requests AS r ON r.id = unsent.id
        CROSS JOIN LATERAL (
            VALUES ('all', ''), ('client', r.client_id::text), ('country', coalesce(r.country, '001'))
        ) AS of (scope, subject)
        WHERE r.id = ANY (ids) AND NOT r.is_test
        GROUP BY unsent.day, of.scope, of.subject
    ) AS back
    WHERE EXISTS (
        SELECT FROM send_counts AS known
        WHERE known.day = back.day AND known.scope = back.scope AND known.subject = back.subject
    )
    ORDER BY back.day, back.scope, back.subject
    ON CONFLICT ON CONSTRAINT send_counts_pkey DO UPDATE SET taken = c.taken + excluded.taken;
END
$$
