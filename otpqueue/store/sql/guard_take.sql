-- The pumping guard in enforce mode, on one send: reads what it must know, and counts the send if it is allowed.
--
-- `counted` is NULL where nothing was counted: guard_count says when. The caller then decides by `facts`
-- (domain/guard.py's `decide`): refuse; or, for the chance of a new block, call this again with `chances`, which lets
-- one transaction at a time count chances until it commits; or, where others were quicker, call it again.
-- `counted_at` is the moment in whose hour it was counted: now, or for a resend when its request was accepted.
CREATE OR REPLACE FUNCTION guard_take(
    numbers bytea[], addresses bytea[], block text, country text, digits text, resend boolean, at timestamptz,
    policy jsonb, chances boolean,
    OUT facts jsonb, OUT counted text, OUT counted_at timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    IF chances THEN
        PERFORM pg_advisory_xact_lock(444350952036);  -- "guard"
    END IF;
    facts := guard_facts(numbers, addresses, block, country, digits, at);
    counted_at := CASE WHEN resend THEN coalesce((facts ->> 'live_since')::timestamptz, at) ELSE at END;
    counted := guard_count(facts, block, country, addresses, counted_at, at, policy, chances);
END
$$
