-- Whether the pumping guard allows a send, given facts (guard_facts) and budgets (`Policy`, as JSON). SQL
-- returns only the decision; `decide` in domain/guard.py gives the reason. A test checks that the two agree.
CREATE OR REPLACE FUNCTION guard_allows(facts jsonb, policy jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (
        SELECT CASE
            WHEN f.verified OR f.excepted THEN true
            WHEN f.best_day > 0 THEN f.others < p.block_floor + p.share * f.best_day
            ELSE
                (f.tries IS NULL OR f.own > 0
                 OR greatest(f.tries - f.tries_verified, 0) < p.address_floor + p.share * f.tries_verified)
                AND f.others = 0 AND f.own < p.own_sends
                AND (f.refused = 0 OR f.country_hour < p.share * f.country_hour_verified)
                AND f.country_hour < p.country_floor_hour
                                     + p.share * greatest(f.country_hour_verified, f.country_best_hour)
                AND f.country_day < p.country_floor_day
                                    + p.share * greatest(f.country_day_verified, f.country_best_day)
                AND f.total_hour < p.total_floor_hour + p.share * greatest(f.total_hour_verified, f.total_best_hour)
                AND f.total_day < p.total_floor_day + p.share * greatest(f.total_day_verified, f.total_best_day)
        END
        FROM (
            SELECT
                j.verified, j.excepted, j.own,
                greatest(greatest(b.day_sent - b.day_verified, 0) - j.own, 0) AS others,
                coalesce(b.best_day, 0) AS best_day, coalesce(b.refused, 0) AS refused,
                a.sent AS tries, a.verified AS tries_verified,
                coalesce(greatest(c.hour_sent - c.hour_verified, 0), 0) AS country_hour,
                coalesce(c.hour_verified, 0) AS country_hour_verified, coalesce(c.best_hour, 0) AS country_best_hour,
                coalesce(greatest(c.day_sent - c.day_verified, 0), 0) AS country_day,
                coalesce(c.day_verified, 0) AS country_day_verified, coalesce(c.best_day, 0) AS country_best_day,
                coalesce(greatest(t.hour_sent - t.hour_verified, 0), 0) AS total_hour,
                coalesce(t.hour_verified, 0) AS total_hour_verified, coalesce(t.best_hour, 0) AS total_best_hour,
                coalesce(greatest(t.day_sent - t.day_verified, 0), 0) AS total_day,
                coalesce(t.day_verified, 0) AS total_day_verified, coalesce(t.best_day, 0) AS total_best_day
            FROM jsonb_to_record(facts) AS j (
                verified boolean, excepted boolean, own integer, block jsonb, country jsonb, total jsonb, address jsonb
            ),
            LATERAL jsonb_to_record(coalesce(nullif(j.block, 'null'), '{}')) AS b (
                day_sent integer, day_verified integer, best_day integer, refused integer
            ),
            LATERAL jsonb_to_record(coalesce(nullif(j.country, 'null'), '{}')) AS c (
                hour_sent integer, hour_verified integer, day_sent integer, day_verified integer,
                best_hour integer, best_day integer
            ),
            LATERAL jsonb_to_record(coalesce(nullif(j.total, 'null'), '{}')) AS t (
                hour_sent integer, hour_verified integer, day_sent integer, day_verified integer,
                best_hour integer, best_day integer
            ),
            LATERAL jsonb_to_record(coalesce(nullif(j.address, 'null'), '{}')) AS a (sent integer, verified integer)
        ) AS f,
        jsonb_to_record(policy) AS p (
            share double precision, block_floor integer, country_floor_hour integer, country_floor_day integer,
            total_floor_hour integer, total_floor_day integer, address_floor integer, own_sends integer
        )
    );
END
$$
