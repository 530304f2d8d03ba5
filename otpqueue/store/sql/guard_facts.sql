-- The facts that the pumping guard needs to decide on one send: domain/guard.py's `Facts`, as JSON. `country`,
-- `total` and `address` are present only if the block is new, the number is not verified and no exception
-- applies.
CREATE OR REPLACE FUNCTION guard_facts(
    numbers bytea[], addresses bytea[], block text, country text, digits text, at timestamptz
) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    facts jsonb;
BEGIN
    SELECT jsonb_build_object(
        'verified', n.verified, 'own', n.own, 'live_since', n.live_since,
        'excepted', EXISTS (
            SELECT FROM guard_exceptions AS e
            WHERE e.until > at AND (e.subject = country OR starts_with(digits, e.subject))
        ),
        'block', (SELECT to_jsonb(t) FROM guard_tally(ARRAY[block], at) AS t)
    ) INTO facts
    FROM guard_number(numbers, at) AS n;
    IF (facts -> 'verified')::boolean OR (facts -> 'excepted')::boolean
       OR coalesce((facts #> '{block,best_day}')::integer, 0) > 0 THEN
        RETURN facts;
    END IF;
    RETURN facts || jsonb_build_object(
        'country', (SELECT to_jsonb(t) FROM guard_tally(ARRAY[country], at) AS t),
        'total', (SELECT to_jsonb(t) FROM guard_tally(ARRAY['*'], at) AS t),
        'address', (
            SELECT jsonb_build_object('sent', coalesce(sum(a.tries), 0), 'verified', coalesce(sum(a.verified), 0))
            FROM guard_addresses AS a
            WHERE a.address_hash = ANY(addresses) AND a.hour > date_trunc('hour', at, 'UTC') - interval '1 day'
            HAVING cardinality(addresses) > 0
        )
    );
END
$$
