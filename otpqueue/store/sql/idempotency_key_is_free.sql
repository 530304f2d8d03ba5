-- Whether a call may use an idempotency key that already has a row: the key has expired, or the call that held
-- it, with the same body, was killed and its lease has expired. Leases are compared with Postgres's clock.
CREATE OR REPLACE FUNCTION idempotency_key_is_free(
    k idempotency_keys, fingerprints bytea[], at timestamptz
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN k.lease_until IS NULL THEN k.expires_at <= at ELSE k.lease_until < statement_timestamp() AND
        (k.fingerprint = ANY(fingerprints) OR k.expires_at <= at)
    END
$$
