-- Counts a batch of claimed sends, each as the pumping guard decided, and marks their requests. Returns the ids
-- of those that were not counted before. Calling it again with the same sends changes nothing.
--
-- `sends`: which send of its request each is. `standings`: 'known', 'new' (a chance of a new block) or
-- 'refused' (sent anyway, and not counted against a budget unless it is verified). `reasons`, `at_risks` and
-- `budgets` describe a refusal. `tried`: whether it counts as a try of its address at a new block.
--
-- A request may have moved on since the claim. A send that certainly failed is not counted, and a verified one
-- is counted as verified. From here on the trigger otp_requests_guard counts changes of the request. Rows that
-- the previous version counted at acceptance are skipped: `guard_as` without `guard_counted`.
--
-- All increments are relative, so concurrent counts are not lost. Rows are locked in a fixed order: requests by
-- id; then tallies as in the trigger, all, countries, blocks; then addresses; then decisions. (Postgres runs
-- the INSERTs and the UPDATE after `fresh`, the last one first.)
--
-- Call it in a transaction of its own: the function does not wait for that transaction's commit to reach disk.
CREATE OR REPLACE FUNCTION guard_count_claims(
    ids uuid[], sends smallint[], blocks text[], standings text[], reasons text[], at_risks integer[],
    budgets double precision[], tried boolean[], mode text, at timestamptz
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    counted uuid[];
BEGIN
    -- The flush would be half the cost of a small batch. After a crash of Postgres, counts can be missing only
    -- for sends with no recorded outcome: recording an outcome later makes the count durable as well.
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH fresh AS MATERIALIZED (
        SELECT
            r.id, r.client_id, coalesce(r.country, 'ZZ') AS country, r.client_ip_hash AS address,
            date_trunc('hour', r.created_at, 'UTC') AS hour,
            g.send, g.block, g.counted_as, g.reason, g.at_risk, g.budget, g.tried,
            (r.status = 'verified')::integer AS is_verified,
            CASE
                WHEN r.unknowns > 0 OR r.send_state <> 'idle' OR r.sends > g.send THEN 1
                WHEN g.send > 1 THEN (r.resend IS DISTINCT FROM 'failed')::integer
                WHEN r.finished_at IS NULL OR r.sent_at IS NOT NULL THEN 1
                ELSE EXISTS (
                    SELECT FROM send_attempts AS a WHERE a.request_id = r.id AND a.outcome = 'accepted'
                )::integer
            END AS left_us
        FROM unnest(ids, sends, blocks, standings, reasons, at_risks, budgets, guard_count_claims.tried)
             AS g (id, send, block, counted_as, reason, at_risk, budget, tried)
        JOIN otp_requests AS r ON r.id = g.id
        WHERE r.guard_counted < g.send AND (r.guard_as IS NULL OR r.guard_counted > 0)
        ORDER BY r.id
        FOR NO KEY UPDATE OF r
    ), now AS (
        SELECT f.*, f.left_us * f.is_verified AS verified FROM fresh AS f
    ), marked AS (
        UPDATE otp_requests AS r
        SET guard_counted = f.send, guard_as = f.counted_as,
            guard_known = r.guard_known + CASE WHEN f.counted_as = 'known' THEN f.left_us ELSE 0 END,
            guard_new = r.guard_new + CASE WHEN f.counted_as = 'new' THEN f.left_us ELSE 0 END,
            guard_refused = r.guard_refused + CASE WHEN f.counted_as = 'refused' THEN f.left_us ELSE 0 END
        FROM fresh AS f WHERE r.id = f.id
    ), decided AS (
        INSERT INTO guard_decisions AS d (minute, client_id, country, mode, reason, block, tries, at_risk, budget)
        SELECT date_trunc('minute', at, 'UTC'), f.client_id, f.country, guard_count_claims.mode, f.reason,
               (array_agg(f.block ORDER BY f.at_risk, f.block))[1], count(*),
               (array_agg(f.at_risk ORDER BY f.at_risk, f.block))[1],
               (array_agg(f.budget ORDER BY f.at_risk, f.block))[1]
        FROM fresh AS f WHERE f.counted_as = 'refused'
        GROUP BY f.client_id, f.country, f.reason
        ORDER BY f.client_id, f.country, f.reason
        ON CONFLICT ON CONSTRAINT guard_decisions_pkey DO UPDATE SET tries = d.tries + excluded.tries
    ), addressed AS (
        INSERT INTO guard_addresses AS a (address_hash, hour, tries, verified)
        SELECT f.address, f.hour, count(*), sum(CASE WHEN f.counted_as = 'new' THEN f.verified ELSE 0 END)
        FROM now AS f WHERE f.tried AND f.address IS NOT NULL
        GROUP BY f.address, f.hour
        ORDER BY f.address, f.hour
        ON CONFLICT ON CONSTRAINT guard_addresses_pkey
        DO UPDATE SET tries = a.tries + excluded.tries, verified = a.verified + excluded.verified
    ), tallied AS (
        INSERT INTO guard_tallies AS t (
            subject, hour, country, sent, verified, refused, shadowed, shadowed_verified
        )
        SELECT s.subject, f.hour, min(s.country), sum(s.sent), sum(s.verified), sum(s.refused), sum(s.shadowed),
               sum(s.shadowed_verified)
        FROM now AS f CROSS JOIN LATERAL (
            SELECT 0 AS rank, '*' AS subject, 'ZZ' AS country, f.left_us AS sent, f.verified, 0 AS refused,
                   0 AS shadowed, 0 AS shadowed_verified
            WHERE f.counted_as = 'new'
            UNION ALL
            SELECT 1, f.country, f.country, f.left_us, f.verified, 0, 0, 0 WHERE f.counted_as = 'new'
            UNION ALL
            SELECT 2, f.block, f.country, f.left_us, f.verified, 0, 0, 0 WHERE f.counted_as <> 'refused'
            UNION ALL
            SELECT 2, f.block, f.country, f.verified, f.verified, 1, f.left_us, f.verified
            WHERE f.counted_as = 'refused'
        ) AS s
        GROUP BY s.rank, s.subject, f.hour
        ORDER BY s.rank, s.subject, f.hour
        ON CONFLICT ON CONSTRAINT guard_tallies_pkey DO UPDATE
        SET sent = t.sent + excluded.sent, verified = t.verified + excluded.verified,
            refused = t.refused + excluded.refused, shadowed = t.shadowed + excluded.shadowed,
            shadowed_verified = t.shadowed_verified + excluded.shadowed_verified
    )
    SELECT array_agg(f.id) INTO counted FROM fresh AS f;
    RETURN coalesce(counted, '{}');
END
$$
