-- Subtract requests that a claim has counted in its own shard, in the same transaction.
CREATE OR REPLACE FUNCTION take_off_counts(ids uuid[], of_day date, of_shard smallint) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    UPDATE send_counts AS c SET taken = c.taken - off.number
    FROM (
        SELECT of.scope, of.subject, count(*) AS number
        FROM otp_requests AS r CROSS JOIN LATERAL (
            VALUES ('all', ''), ('client', r.client_id::text), ('country', coalesce(r.country, '001'))
        ) AS of (scope, subject)
        WHERE r.id = ANY (ids)
        GROUP BY of.scope, of.subject
    ) AS off
    WHERE c.day = of_day AND c.scope = off.scope AND c.subject = off.subject AND c.shard = of_shard;
END
$$
