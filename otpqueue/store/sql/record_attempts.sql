-- Record the outcomes of attempts. Each row names one attempt and its effect on the request:
--
--   moved      the outcome was applied to the request
--   unchanged  the request had ended, was claimed again or is gone: at most the attempt's row changed
--   locked     another session holds the request's row: nothing was recorded, try again
--
-- Rows are locked with SKIP LOCKED, so two of these calls cannot deadlock. The day's counts are locked after
-- these rows, in key order.
--
-- The outcome is always stored on the attempt. It is applied to the request only if no later attempt has been
-- claimed. A late `accepted` of the latest attempt wins over an expired lease ('due' again). A request that
-- ended meanwhile only becomes idle. The status of a request with a code already sent does not change: a resend
-- has a column of its own. An attempt with which nothing was sent is subtracted from the day's counts once:
-- `noted` returns each outcome once.
--
-- Rows are looked up by `ids` (the requests of `results`) and joined with `results` in memory, so the plan is
-- the same at any table size.
CREATE OR REPLACE FUNCTION record_attempts(ids uuid[], results json)
RETURNS TABLE (request_id uuid, attempt smallint, became text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    free uuid[];
    found_row record;
    unsent uuid[];
    unsent_days date[];
BEGIN
    free := ARRAY(
        SELECT r.id FROM otp_requests AS r WHERE r.id = ANY (ids) FOR NO KEY UPDATE SKIP LOCKED
    );
    FOR found_row IN
        WITH result AS MATERIALIZED (
            SELECT * FROM json_to_recordset(results) AS t (
                id uuid, attempt smallint, outcome text, retryable boolean, code text, http_status smallint,
                pin_id text, external_message_id text, evidence text, latency_ms integer,
                started_at timestamptz, finished_at timestamptz, status text, reason text, resend text,
                kind text, next_attempt_at timestamptz, expires_at timestamptz, resend_after timestamptz
            )
        ), noted AS (
            UPDATE send_attempts AS a
            SET outcome = result.outcome, retryable = result.retryable, code = result.code,
                http_status = result.http_status, pin_id = result.pin_id, latency_ms = result.latency_ms,
                external_message_id = result.external_message_id, evidence = result.evidence,
                started_at = result.started_at, finished_at = result.finished_at
            FROM result
            WHERE a.request_id = ANY (free) AND a.request_id = result.id AND a.number = result.attempt
              AND (a.outcome IS NULL OR (a.code = 'lease_ran_out' AND result.code <> 'lease_ran_out'))
            RETURNING a.request_id, a.outcome, (a.claimed_at AT TIME ZONE 'UTC')::date AS day
        ), moved AS (
            UPDATE otp_requests AS r
            SET status = CASE WHEN r.status = 'queued' THEN coalesce(result.status, r.status)
                              ELSE r.status END,
                reason = CASE WHEN r.status = 'queued' THEN result.reason ELSE r.reason END,
                provider_code = CASE WHEN r.status = 'queued' AND result.outcome = 'returned'
                                     THEN r.provider_code
                                     WHEN r.status = 'queued' AND result.outcome <> 'accepted'
                                     THEN result.code END,
                send_state = CASE WHEN r.status IN ('queued', 'sent', 'delivered', 'undelivered')
                                       AND result.next_attempt_at IS NOT NULL THEN 'due' ELSE 'idle' END,
                next_attempt_at = CASE WHEN r.status IN ('queued', 'sent', 'delivered', 'undelivered')
                                       THEN result.next_attempt_at END,
                send_kind = coalesce(result.kind, r.send_kind),
                lease_until = NULL,
                tries = r.tries - CASE WHEN result.outcome = 'returned' THEN 1 ELSE 0 END,
                unknowns = r.unknowns + CASE WHEN result.outcome = 'unknown' THEN 1 ELSE 0 END,
                pin_id = CASE WHEN r.status IN ('queued', 'sent', 'delivered', 'undelivered')
                              THEN coalesce(result.pin_id, r.pin_id) ELSE r.pin_id END,
                sent_at = CASE WHEN r.status = 'queued' AND result.outcome = 'accepted'
                               THEN result.finished_at ELSE r.sent_at END,
                expires_at = CASE WHEN r.status IN ('queued', 'sent', 'delivered', 'undelivered')
                                  THEN coalesce(result.expires_at, r.expires_at) ELSE r.expires_at END,
                resend = CASE WHEN r.resend = 'pending' THEN coalesce(result.resend, r.resend)
                              ELSE r.resend END,
                resend_reason = CASE WHEN r.resend = 'pending' AND result.resend = 'failed'
                                     THEN coalesce(result.reason, result.code) ELSE r.resend_reason END,
                resend_after = coalesce(result.resend_after, r.resend_after),
                finished_at = CASE WHEN r.status = 'queued' AND result.status IN ('failed', 'expired')
                                   THEN result.finished_at ELSE r.finished_at END,
                updated_at = result.finished_at
            FROM result
            WHERE r.id = ANY (free) AND r.id = result.id AND r.attempt = result.attempt
              AND (r.send_state = 'claimed' OR (r.send_state = 'due' AND result.outcome = 'accepted'))
            RETURNING r.id, r.attempt
        )
        SELECT result.id, result.attempt,
               CASE WHEN moved.id IS NULL THEN 'unchanged' ELSE 'moved' END AS became, NULL::date AS unsent_on
        FROM result LEFT JOIN moved ON moved.id = result.id AND moved.attempt = result.attempt
        UNION ALL
        SELECT noted.request_id, NULL, NULL, noted.day FROM noted
        WHERE noted.outcome IN ('refused', 'returned')
    LOOP
        IF found_row.unsent_on IS NULL THEN
            request_id := found_row.id;
            attempt := found_row.attempt;
            became := found_row.became;
            IF became = 'unchanged' AND found_row.id <> ALL (free) AND EXISTS (
                SELECT FROM otp_requests AS r WHERE r.id = found_row.id
            ) THEN
                became := 'locked';
            END IF;
            RETURN NEXT;
        ELSE
            unsent := unsent || found_row.id;
            unsent_days := unsent_days || found_row.unsent_on;
        END IF;
    END LOOP;
    IF unsent IS NOT NULL THEN
        PERFORM give_back_sends(unsent, unsent_days);
    END IF;
END
$$
