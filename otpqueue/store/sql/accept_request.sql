-- Accepts a request for a code in one statement. It reads the facts that can refuse the request, and stores the
-- request if none does. SQL decides only whether to accept; domain/admission.py evaluates the facts and gives
-- the reason of a refusal.
--
-- Returns one row. `accepted`: the request is stored. `replaced`: the live requests of the same client, number
-- and session, which this request cancelled. Otherwise nothing is stored, for one of these reasons:
-- - `repeated`: the Idempotency-Key was used before; the `kept_` columns describe that call.
-- - A fact refuses the request, or `store` is false.
-- - The pumping guard was asked and did not count the send; `guard_facts` holds its facts (guard_take.sql).
--
-- Raises unique_violation when another session stores the same number and session, or uses the same key, at the
-- same moment. The caller then executes the statement again, which sees the other session's rows.
CREATE OR REPLACE FUNCTION accept_request(
    store boolean, client uuid, numbers bytea[], addresses bytea[], at timestamptz,
    number_since timestamptz, number_before integer, address_since timestamptz, address_before integer,
    most_in_a_row integer,
    new_id uuid, sealed bytea, seal_key text, country_code text, sessions bytea[], address bytea,
    reference text, new_channel text, new_language text, checks integer, deadline timestamptz,
    for_test boolean, block text, guard jsonb, trace text,
    key_hashes bytea[], fingerprints bytea[], key_expires_at timestamptz, answer_to_keep jsonb,
    OUT accepted boolean, OUT blocked boolean, OUT wrong_in_a_row bigint, OUT number_nth timestamptz,
    OUT address_nth timestamptz, OUT replaced uuid[], OUT repeated boolean, OUT kept_fingerprint bytea,
    OUT kept_answer jsonb, OUT kept_request_id uuid, OUT kept_in_progress boolean,
    OUT guard_facts jsonb, OUT counted_as text, OUT counted_at timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    accepted := false;
    repeated := false;
    IF key_hashes IS NOT NULL THEN
        -- Two processes that hash with different keys at the same moment may have inserted two rows for one
        -- key.
        SELECT k.fingerprint, k.answer, k.request_id, k.lease_until IS NOT NULL
        INTO kept_fingerprint, kept_answer, kept_request_id, kept_in_progress
        FROM idempotency_keys AS k
        WHERE k.client_id = client AND k.key_hash = ANY(key_hashes)
          AND NOT idempotency_key_is_free(k, fingerprints, at)
        ORDER BY k.created_at DESC LIMIT 1;
        repeated := FOUND;
        IF repeated THEN
            RETURN;
        END IF;
    END IF;
    SELECT f.blocked, f.wrong_in_a_row, f.number_nth, f.address_nth
    INTO blocked, wrong_in_a_row, number_nth, address_nth
    FROM admission_facts(client, numbers, addresses, at, number_since, number_before, address_since,
                         address_before) AS f;
    IF NOT store OR (
        NOT for_test
        AND (blocked OR wrong_in_a_row > most_in_a_row OR number_nth IS NOT NULL OR address_nth IS NOT NULL)
    ) THEN
        RETURN;
    END IF;
    -- In enforce mode the pumping guard decides last, and counts the send in the same transaction.
    IF guard IS NOT NULL THEN
        SELECT t.facts, t.counted, t.counted_at INTO guard_facts, counted_as, counted_at
        FROM guard_take(numbers, addresses, block, guard ->> 'country', guard ->> 'digits', false, at,
                        guard -> 'policy', (guard ->> 'chances')::boolean) AS t;
        IF counted_as IS NULL THEN
            RETURN;
        END IF;
    END IF;
    -- During a look-up key rotation, processes store either of two hashes. The unique index on live rows does
    -- not see that both belong to the same number.
    IF cardinality(numbers) > 1 THEN
        PERFORM pg_advisory_xact_lock(
            ('x' || encode(substring(least(numbers[1], numbers[2]) FROM 25 FOR 8), 'hex'))::bit(64)::bigint
        );
    END IF;
    -- A worker that holds the replaced request keeps its claim and records the outcome late. A pending resend
    -- that was not sent has failed.
    WITH ended AS (
        UPDATE otp_requests AS r
        SET status = 'cancelled', reason = 'replaced', finished_at = at, updated_at = at,
            next_attempt_at = NULL,
            send_state = CASE WHEN r.send_state = 'due' THEN 'idle' ELSE r.send_state END,
            resend = CASE WHEN r.send_state = 'due' AND r.resend = 'pending' THEN 'failed' ELSE r.resend END,
            resend_reason = CASE WHEN r.send_state = 'due' AND r.resend = 'pending' THEN 'replaced'
                                 ELSE r.resend_reason END
        WHERE r.client_id = client AND r.number_hash = ANY(numbers)
          AND CASE WHEN sessions IS NULL THEN r.session_hash IS NULL ELSE r.session_hash = ANY(sessions) END
          AND r.status IN ('delivered', 'queued', 'sent', 'undelivered')
        RETURNING r.id
    )
    SELECT array_agg(ended.id) INTO replaced FROM ended;
    INSERT INTO otp_requests (
        id, client_id, number_sealed, seal_key_id, number_hash, country, session_hash, client_ip_hash,
        client_reference, channel, language, status, send_state, next_attempt_at, checks_allowed, created_at,
        updated_at, send_by, is_test, guard_block, guard_as, guard_counted, guard_known, guard_new,
        trace_context
    ) VALUES (
        new_id, client, sealed, seal_key, numbers[1], country_code, sessions[1], address,
        reference, new_channel, new_language, 'queued', 'due', at, checks, at,
        at, deadline, for_test, block, counted_as, (counted_as IS NOT NULL)::integer,
        (counted_as IS NOT DISTINCT FROM 'known')::integer, (counted_as IS NOT DISTINCT FROM 'new')::integer,
        trace
    );
    IF key_hashes IS NOT NULL THEN
        INSERT INTO idempotency_keys AS k (
            client_id, key_hash, fingerprint, request_id, answer, created_at, expires_at
        ) VALUES (client, key_hashes[1], fingerprints[1], new_id, answer_to_keep, at, key_expires_at)
        ON CONFLICT (client_id, key_hash) DO UPDATE
        SET fingerprint = excluded.fingerprint, request_id = excluded.request_id, answer = excluded.answer,
            lease_until = NULL, created_at = excluded.created_at, expires_at = excluded.expires_at
        WHERE idempotency_key_is_free(k, fingerprints, at);
        IF NOT FOUND THEN
            RAISE unique_violation USING MESSAGE = 'the idempotency key was used meanwhile';
        END IF;
    END IF;
    accepted := true;
END
$$
