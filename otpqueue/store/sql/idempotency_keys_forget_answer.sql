-- The response and the fingerprint are deleted with the request, by whatever statement. The body contains the
-- number, which a holder of the look-up key could find by brute force. The row stays, so that a late retry of
-- the call does not request another code. A call that takes over an expired key has a lease.
CREATE OR REPLACE FUNCTION idempotency_keys_forget_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := NULL;
    IF NEW.lease_until IS NULL THEN
        NEW.fingerprint := '';
    END IF;
    RETURN NEW;
END
$$
