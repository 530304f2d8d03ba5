-- What the pumping guard has counted of each subject (a block, or the chances of a country or of all) in the last 14
-- days: this hour, this one and the one before, this one and the 23 before, and the most that was verified in an hour
-- and on a day (UTC). Subjects of which nothing was counted are left out.
CREATE OR REPLACE FUNCTION guard_tally(subjects text[], at timestamptz)
RETURNS TABLE (
    subject text, now_sent integer, now_verified integer, hour_sent integer, hour_verified integer,
    day_sent integer, day_verified integer, best_hour integer, best_day integer, refused integer
) LANGUAGE sql STABLE AS $$
    SELECT
        d.subject,
        sum(d.now_sent)::integer, sum(d.now_verified)::integer,
        sum(d.hour_sent)::integer, sum(d.hour_verified)::integer,
        sum(d.day_sent)::integer, sum(d.day_verified)::integer,
        max(d.best_hour), max(d.verified)::integer, sum(d.refused)::integer
    FROM (
        SELECT
            t.subject, sum(t.verified) AS verified, max(t.verified) AS best_hour,
            coalesce(sum(t.sent) FILTER (WHERE t.hour = h.this), 0) AS now_sent,
            coalesce(sum(t.verified) FILTER (WHERE t.hour = h.this), 0) AS now_verified,
            coalesce(sum(t.sent) FILTER (WHERE t.hour >= h.this - interval '1 hour'), 0) AS hour_sent,
            coalesce(sum(t.verified) FILTER (WHERE t.hour >= h.this - interval '1 hour'), 0) AS hour_verified,
            coalesce(sum(t.sent) FILTER (WHERE t.hour > h.this - interval '1 day'), 0) AS day_sent,
            coalesce(sum(t.verified) FILTER (WHERE t.hour > h.this - interval '1 day'), 0) AS day_verified,
            coalesce(sum(t.refused) FILTER (WHERE t.hour > h.this - interval '1 day'), 0) AS refused
        FROM guard_tallies AS t, (SELECT date_trunc('hour', at, 'UTC') AS this) AS h
        WHERE t.subject = ANY(subjects) AND t.hour > h.this - interval '14 days'
        GROUP BY t.subject, date_trunc('day', t.hour, 'UTC')
    ) AS d
    GROUP BY d.subject
$$
