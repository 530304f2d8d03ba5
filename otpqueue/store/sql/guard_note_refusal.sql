-- Stores a refusal of the pumping guard: the tries of its block and of its address (NULL if not counted), and
-- the decision with its figures. Refusals of one minute for one reason share a row, with the figures of the
-- first.
CREATE OR REPLACE FUNCTION guard_note_refusal(
    client uuid, block text, country text, address bytea, counted_at timestamptz, at timestamptz,
    mode text, reason text, at_risk integer, budget double precision
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    in_hour timestamptz := date_trunc('hour', counted_at, 'UTC');
BEGIN
    INSERT INTO guard_tallies AS t (subject, hour, country, refused)
    VALUES (guard_note_refusal.block, in_hour, guard_note_refusal.country, 1)
    ON CONFLICT ON CONSTRAINT guard_tallies_pkey DO UPDATE SET refused = t.refused + 1;
    IF address IS NOT NULL THEN
        INSERT INTO guard_addresses AS a (address_hash, hour, tries) VALUES (address, in_hour, 1)
        ON CONFLICT ON CONSTRAINT guard_addresses_pkey DO UPDATE SET tries = a.tries + 1;
    END IF;
    INSERT INTO guard_decisions AS d (minute, client_id, country, mode, reason, block, tries, at_risk, budget)
    VALUES (
        date_trunc('minute', at, 'UTC'), client, guard_note_refusal.country, guard_note_refusal.mode,
        guard_note_refusal.reason, guard_note_refusal.block, 1, guard_note_refusal.at_risk, guard_note_refusal.budget
    )
    ON CONFLICT ON CONSTRAINT guard_decisions_pkey DO UPDATE SET tries = d.tries + 1;
END
$$
