-- The pumping guard's facts about a phone number, over all clients. A number has two hashes during a look-up
-- key rotation.
--
-- `own`: its sends of the last 24 hours that are counted and not verified. Rows from before `guard_counted`
-- were counted at acceptance, each send as `guard_as` says. `live_since`: when its newest live request was
-- accepted.
CREATE OR REPLACE FUNCTION guard_number(hashes bytea[], at timestamptz)
RETURNS TABLE (verified boolean, own integer, live_since timestamptz) LANGUAGE sql STABLE AS $$
    SELECT
        coalesce(bool_or(r.verified_at IS NOT NULL), false),
        coalesce(sum(
            CASE WHEN r.guard_counted > 0 THEN r.guard_known + r.guard_new
                 WHEN r.guard_as IN ('known', 'new') AND (r.finished_at IS NULL OR r.sent_at IS NOT NULL)
                 THEN r.sends
                 ELSE 0 END
        ) FILTER (WHERE r.created_at > at - interval '1 day' AND r.verified_at IS NULL), 0)::integer,
        max(r.created_at) FILTER (WHERE r.guard_block IS NOT NULL)
    FROM otp_requests AS r
    WHERE r.number_hash = ANY(hashes) AND r.created_at > date_trunc('hour', at, 'UTC') - interval '14 days'
$$
