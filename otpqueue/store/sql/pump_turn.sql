-- One turn of a pump: record finished attempts, then claim due requests. One round trip, one commit.
--
-- Rows of `record_attempts` come first, with `became` as their fate. Rows of `claim_due` follow, none if
-- `slots` is 0.
CREATE OR REPLACE FUNCTION pump_turn(
    ids uuid[], results json,
    slots integer, lease_s double precision, by_worker text, at timestamptz, of_day date,
    cap integer, cap_per_client integer, cap_by_share integer, caps_by_country jsonb, after uuid
) RETURNS TABLE (
    fate text, next_due timestamptz, request_id uuid, client_id uuid, country text, attempt smallint,
    tries smallint, unknowns smallint, send_by timestamptz, language text, status text, send_kind text,
    sends smallint, pin_id text, channel text, number_sealed bytea, seal_key_id text, is_test boolean,
    trace_context text, guard_block text, guard_counted smallint, created_at timestamptz, number_hash bytea,
    client_ip_hash bytea
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    IF results IS NOT NULL THEN
        FOR fate, request_id, attempt IN
            SELECT done.became, done.request_id, done.attempt FROM record_attempts(ids, results) AS done
        LOOP
            RETURN NEXT;
        END LOOP;
    END IF;
    IF slots > 0 THEN
        RETURN QUERY SELECT * FROM claim_due(
            slots, lease_s, by_worker, at, of_day, cap, cap_per_client, cap_by_share,
            caps_by_country, after
        );
    END IF;
END
$$
