-- The facts that the pumping guard needs to decide on a batch of sends, in the order of the arrays. `numbers`:
-- for each send, whether its number is verified and how many sends the number has (guard_number). `addresses`:
-- the tries of its address at new blocks in the last 24 hours, or null. `tallies`: the tallies of all blocks,
-- by subject. `excepted`: the countries and leading digits that an operator has excepted. Addresses and the
-- tallies of countries and of all are present only if some block of the batch is new.
--
-- The generic plans are good. Planning for the few subjects of each batch would cost more than it saves.
--
-- `others` are the numbers' hashes under the other look-up key during a rotation, NULL otherwise.
CREATE OR REPLACE FUNCTION guard_claim_facts(
    numbers bytea[], others bytea[], blocks text[], countries text[], addresses bytea[], at timestamptz
) RETURNS jsonb LANGUAGE plpgsql STABLE SET plan_cache_mode TO force_generic_plan AS $$
DECLARE
    tallies jsonb;
    new_in text[];
    tries jsonb := '[]';
BEGIN
    SELECT coalesce(jsonb_object_agg(t.subject, to_jsonb(t)), '{}') INTO tallies FROM guard_tally(blocks, at) AS t;
    SELECT array_agg(DISTINCT s.country) INTO new_in
    FROM unnest(blocks, countries) AS s (block, country)
    WHERE coalesce((tallies #>> ARRAY[s.block, 'best_day'])::integer, 0) = 0;
    IF new_in IS NOT NULL THEN
        SELECT tallies || coalesce(jsonb_object_agg(t.subject, to_jsonb(t)), '{}') INTO tallies
        FROM guard_tally(new_in || '*'::text, at) AS t;
        SELECT jsonb_agg(a.tries ORDER BY s.nth) INTO tries
        FROM unnest(addresses) WITH ORDINALITY AS s (address, nth) CROSS JOIN LATERAL (
            SELECT jsonb_build_array(coalesce(sum(a.tries), 0), coalesce(sum(a.verified), 0)) AS tries
            FROM guard_addresses AS a
            WHERE a.address_hash = s.address AND a.hour > date_trunc('hour', at, 'UTC') - interval '1 day'
        ) AS a;
    END IF;
    RETURN jsonb_build_object(
        'numbers', (
            SELECT jsonb_agg(jsonb_build_array(n.verified, n.own) ORDER BY s.nth)
            FROM unnest(numbers, others) WITH ORDINALITY AS s (hash, other, nth),
                 LATERAL guard_number(ARRAY[s.hash, s.other], at) AS n
        ),
        'tallies', tallies,
        'addresses', tries,
        'excepted', coalesce((SELECT jsonb_agg(e.subject) FROM guard_exceptions AS e WHERE e.until > at), '[]')
    );
END
$$
