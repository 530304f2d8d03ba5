-- Counts a send in the hour of `counted_at` if the pumping guard allows it by these facts, and returns 'known'
-- or 'new'. Returns NULL if it counted nothing: guard_allows refuses the send; or the send is a chance of a new
-- block and `chances` is false; or other sessions have used up the block's budget since the facts were read.
--
-- With `chances`, the caller holds the lock of guard_take and has read the facts under it. Without, the count
-- of a known block is still exact under concurrency: this hour's row is incremented only while it has room, and
-- the share of other hours can only shrink. Only a resend of a request of an earlier hour is counted in that
-- hour, on the facts alone.
CREATE OR REPLACE FUNCTION guard_count(
    facts jsonb, block text, country text, addresses bytea[], counted_at timestamptz, at timestamptz,
    policy jsonb, chances boolean
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    in_hour timestamptz := date_trunc('hour', counted_at, 'UTC');
    best_day integer := coalesce((facts #>> '{block,best_day}')::integer, 0);
    bounded boolean := NOT ((facts ->> 'verified')::boolean OR (facts ->> 'excepted')::boolean);
    -- How many unverified sends this hour may have, including this one.
    most double precision := 'Infinity';
BEGIN
    IF (bounded AND best_day = 0 AND NOT chances) OR NOT guard_allows(facts, policy) THEN
        RETURN NULL;
    END IF;
    IF bounded AND best_day = 0 THEN
        INSERT INTO guard_tallies AS t (subject, hour, country, sent)
        VALUES ('*', in_hour, 'ZZ', 1), (guard_count.country, in_hour, guard_count.country, 1),
               (block, in_hour, guard_count.country, 1)
        ON CONFLICT (subject, hour) DO UPDATE SET sent = t.sent + 1;
        IF cardinality(addresses) > 0 AND (facts ->> 'own')::integer = 0 THEN
            INSERT INTO guard_addresses AS a (address_hash, hour, tries) VALUES (addresses[1], in_hour, 1)
            ON CONFLICT (address_hash, hour) DO UPDATE SET tries = a.tries + 1;
        END IF;
        RETURN 'new';
    END IF;
    IF bounded AND in_hour = date_trunc('hour', at, 'UTC') THEN
        SELECT (policy ->> 'block_floor')::integer + (policy ->> 'share')::double precision * best_day
               - greatest(greatest(b.day_sent - b.day_verified, 0) - (facts ->> 'own')::integer, 0)
               + greatest(b.now_sent - b.now_verified, 0)
        INTO most
        FROM jsonb_to_record(facts -> 'block') AS b (
            day_sent integer, day_verified integer, now_sent integer, now_verified integer
        );
    END IF;
    INSERT INTO guard_tallies AS t (subject, hour, country, sent) VALUES (block, in_hour, guard_count.country, 1)
    ON CONFLICT (subject, hour) DO UPDATE SET sent = t.sent + 1 WHERE t.sent - t.verified < most;
    RETURN CASE WHEN FOUND THEN 'known' END;
END
$$
