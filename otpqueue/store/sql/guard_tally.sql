-- The pumping guard's counts of each subject (a block, or the chances of a country or of all) in the last 14
-- days: this hour, this one and the previous one, this one and the previous 23, and the maximum verified in an
-- hour and in a day (UTC). Subjects without counts are omitted.
--
-- The two halves keep it cheap: most rows are of earlier days, and only two figures need those.
CREATE OR REPLACE FUNCTION guard_tally(subjects text[], at timestamptz)
RETURNS TABLE (
    subject text, now_sent integer, now_verified integer, hour_sent integer, hour_verified integer,
    day_sent integer, day_verified integer, best_hour integer, best_day integer, refused integer
) LANGUAGE sql STABLE AS $$
    SELECT
        learnt.subject,
        coalesce(d.now_sent, 0), coalesce(d.now_verified, 0), coalesce(d.hour_sent, 0), coalesce(d.hour_verified, 0),
        coalesce(d.day_sent, 0), coalesce(d.day_verified, 0), learnt.best_hour, learnt.best_day,
        coalesce(d.refused, 0)
    FROM (
        SELECT days.subject, max(days.best_hour) AS best_hour, max(days.verified)::integer AS best_day
        FROM (
            SELECT t.subject, sum(t.verified) AS verified, max(t.verified) AS best_hour
            FROM guard_tallies AS t
            WHERE t.subject = ANY(subjects) AND t.hour > date_trunc('hour', at, 'UTC') - interval '14 days'
            GROUP BY t.subject, date_bin('1 day', t.hour, 'epoch')
        ) AS days
        GROUP BY days.subject
    ) AS learnt
    LEFT JOIN (
        SELECT
            t.subject,
            (sum(t.sent) FILTER (WHERE t.hour = this.hour))::integer AS now_sent,
            (sum(t.verified) FILTER (WHERE t.hour = this.hour))::integer AS now_verified,
            (sum(t.sent) FILTER (WHERE t.hour >= this.hour - interval '1 hour'))::integer AS hour_sent,
            (sum(t.verified) FILTER (WHERE t.hour >= this.hour - interval '1 hour'))::integer AS hour_verified,
            sum(t.sent)::integer AS day_sent,
            sum(t.verified)::integer AS day_verified,
            sum(t.refused)::integer AS refused
        FROM guard_tallies AS t, (SELECT date_trunc('hour', at, 'UTC') AS hour) AS this
        WHERE t.subject = ANY(subjects) AND t.hour > this.hour - interval '1 day'
        GROUP BY t.subject
    ) AS d USING (subject)
$$
