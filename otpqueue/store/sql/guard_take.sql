-- The pumping guard in enforce mode, on one send: reads the facts, and counts the send if it is allowed.
--
-- `counted` is NULL if nothing was counted (see guard_count). The caller then decides by `facts` (`decide` in
-- domain/guard.py): refuse; for a chance of a new block, call this again with `chances`, which serialises
-- chances until the transaction commits; or, after a lost race, call it again. `counted_at` determines the hour
-- in which the send is counted: now, or for a resend when its request was accepted.
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
