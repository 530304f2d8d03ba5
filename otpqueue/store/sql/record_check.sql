-- Records the provider's judgement of a code, releases the check's lease, and ends the request if the judgement
-- requires it.
--
-- Returns the updated request, and whether it moved. `moved` is false when the request had ended
-- before or, except for a correct code, when another check has begun since. For a correct code this enforces
-- single use. `begin` has counted the guess as wrong. This function subtracts it if the provider did not judge
-- it, and resets the count if the code was correct and accepted. A correct code that came too late resets
-- nothing.
--
-- Executing it again for the same check with the same time returns the same result for a correct code: the
-- connection may have broken after the commit. A check's number belongs to one caller.
CREATE OR REPLACE FUNCTION record_check(
    request uuid, check_number_ smallint, said text, said_code text, said_status smallint, took_ms integer,
    at timestamptz, given_back_at_most smallint, minute_ timestamptz, shard_ smallint
) RETURNS TABLE (moved boolean, r otp_requests) LANGUAGE plpgsql AS $$
DECLARE
    becomes text;
    why text;
    back smallint := 0;
    noted boolean;
BEGIN
    -- The request first: every function that touches both locks the request before its children.
    SELECT * INTO r FROM otp_requests AS o WHERE o.id = request FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE checks AS c
    SET verdict = said, code = said_code, http_status = said_status, latency_ms = took_ms, finished_at = at
    WHERE c.request_id = request AND c.number = check_number_
      AND (c.verdict IS NULL OR c.code = 'lease_ran_out');
    noted := FOUND;
    IF NOT noted AND said = 'correct' AND r.status = 'verified' AND r.verified_at = at THEN
        moved := EXISTS (
            SELECT FROM checks AS c
            WHERE c.request_id = request AND c.number = check_number_
              AND c.verdict = 'correct' AND c.finished_at = at
        );
        RETURN NEXT;
        RETURN;
    END IF;
    moved := r.status IN ('delivered', 'sent', 'undelivered')
             AND (said = 'correct' OR r.check_number = check_number_);
    IF moved THEN
        CASE said
            WHEN 'correct' THEN
                becomes := 'verified';
                why := 'code_correct';
            WHEN 'expired' THEN
                becomes := 'expired';
                why := 'provider_expired';
            WHEN 'exhausted' THEN
                becomes := 'locked';
                why := 'provider_locked';
            ELSE
                IF said = 'unjudged' AND r.checks_given_back < given_back_at_most THEN
                    back := 1;
                ELSIF r.checks_used >= r.checks_allowed THEN
                    becomes := 'locked';
                    why := 'checks_exhausted';
                END IF;
        END CASE;
        IF becomes IS NULL THEN
            UPDATE otp_requests AS o
            SET check_lease_until = NULL, updated_at = at, checks_used = o.checks_used - back,
                checks_given_back = o.checks_given_back + back
            WHERE o.id = request RETURNING o.* INTO r;
        ELSE
            UPDATE otp_requests AS o
            SET check_lease_until = NULL, status = becomes, reason = why, finished_at = at, updated_at = at,
                verified_at = CASE WHEN becomes = 'verified' THEN at ELSE o.verified_at END, next_attempt_at =
                NULL, send_state = CASE WHEN o.send_state = 'due' THEN 'idle' ELSE o.send_state END, resend =
                CASE WHEN o.send_state = 'due' AND o.resend = 'pending' THEN 'failed' ELSE o.resend END,
                resend_reason = CASE WHEN o.send_state = 'due' AND o.resend = 'pending' THEN why
                                     ELSE o.resend_reason END
            WHERE o.id = request RETURNING o.* INTO r;
        END IF;
    END IF;
    IF noted AND said IN ('correct', 'unknown', 'wrong') THEN
        INSERT INTO check_counts AS n (client_id, minute, shard, checks, wrong)
        VALUES (r.client_id, minute_, shard_, 1, CASE WHEN said = 'correct' THEN 0 ELSE 1 END)
        ON CONFLICT (client_id, minute, shard) DO UPDATE
        SET checks = n.checks + 1, wrong = n.wrong + excluded.wrong;
    END IF;
    IF moved AND said = 'correct' THEN
        DELETE FROM number_guesses AS g
        WHERE g.client_id = r.client_id AND g.number_hash = r.number_hash AND g.unlocked_at IS NULL;
        IF NOT FOUND THEN
            -- An operator's unlock stays in force.
            UPDATE number_guesses AS g SET wrong_in_a_row = 0, updated_at = at
            WHERE g.client_id = r.client_id AND g.number_hash = r.number_hash;
        END IF;
    ELSIF noted AND said NOT IN ('correct', 'unknown', 'wrong') THEN
        UPDATE number_guesses AS g SET wrong_in_a_row = greatest(g.wrong_in_a_row - 1, 0), updated_at = at
        WHERE g.client_id = r.client_id AND g.number_hash = r.number_hash;
    END IF;
    RETURN NEXT;
END
$$
