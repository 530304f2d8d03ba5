-- Claim up to `slots` requests that are due, within the daily caps, and insert their attempts. Each client gets
-- an equal share of the slots, its oldest requests first. Clients with more requests share the slots that the
-- others leave.
--
-- If more clients have due requests than there are slots, clients take turns. The last row then has no fate,
-- and its `client_id` is the client after which the next claim continues. A client waits for at most as many
-- claims of one worker as the number of clients with due requests, divided by `slots`.
--
-- The claim also ends requests that must not be sent any more: those over a cap, and those to a number that was
-- blocked after acceptance. Each row reports the fate of one request:
--
--   send      claimed, and counted
--   over_cap  ended: one of its three counts had reached its cap before
--   blocked   ended: its number is on the do-not-send list
--
-- Requests that do not fit beside older ones of this batch stay due. If nothing is due, the row without a fate
-- has `next_due`.
--
-- Request rows are locked first, with SKIP LOCKED. The counts are locked after them (count_sends.sql): claims
-- share the lock while a cap is far, and wait for each other when it is near.
--
-- A client's cap is its own `daily_cap`, else `cap_per_client`, else `cap_by_share` if there are several
-- clients. A stored `daily_cap` that is not a whole number is ignored (domain/client_settings.py).
--
-- `blocked` compares hashes as they are stored. During a look-up key rotation, a request accepted under one key
-- does not match an entry made under the other, until both are rehashed. Acceptance looks up both hashes. So
-- only a number that is blocked while its code waits is still sent that code.
CREATE OR REPLACE FUNCTION claim_due(
    slots integer, lease_s double precision, by_worker text, at timestamptz, of_day date,
    cap integer, cap_per_client integer, cap_by_share integer, caps_by_country jsonb, after uuid
) RETURNS TABLE (
    fate text, next_due timestamptz, request_id uuid, client_id uuid, country text, attempt smallint,
    tries smallint, unknowns smallint, send_by timestamptz, language text, status text, send_kind text,
    sends smallint, pin_id text, channel text, number_sealed bytea, seal_key_id text, is_test boolean,
    trace_context text, guard_block text, guard_counted smallint, created_at timestamptz, number_hash bytea,
    client_ip_hash bytea
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    stopped record;
    wanted integer := slots;
    turns uuid[];
    quota integer;
    batch record;
    last_served uuid := after;
    sent uuid[];
    blocked uuid[];
    over uuid[];
    counted uuid[];
    of_clients uuid[];
    of_countries text[];
    increments record;
    counts record;
BEGIN
    SELECT * INTO stopped FROM stops_in_force();
    -- If nothing is due, as between retries, skip the search for clients.
    IF NOT stopped.everything AND (
        SELECT true FROM otp_requests AS r
        WHERE r.send_state = 'due' AND r.next_attempt_at <= at AND r.next_attempt_at > at - interval '600 s'
        ORDER BY r.next_attempt_at
        LIMIT 1
    ) THEN
        turns := due_clients(
            coalesce(after, '00000000-0000-0000-0000-000000000000'), slots, at,
            stopped.clients, stopped.countries
        );
        IF cardinality(turns) = slots THEN
            last_served := turns[slots];
        END IF;
        WHILE wanted > 0 AND cardinality(turns) > 0 LOOP
            quota := greatest(1, wanted / cardinality(turns));
            SELECT array_agg(due.id) FILTER (WHERE NOT due.blocked) AS sent,
                   array_agg(due.id) FILTER (WHERE due.blocked) AS blocked,
                   array_agg(due.id) FILTER (WHERE NOT due.blocked AND NOT due.is_test) AS counted,
                   array_agg(due.client_id) FILTER (WHERE NOT due.blocked AND NOT due.is_test) AS of_clients,
                   array_agg(due.country) FILTER (WHERE NOT due.blocked AND NOT due.is_test) AS of_countries,
                   array_agg(due.client_id) AS clients, count(*)::integer AS number
            INTO batch
            FROM lock_due(turns, quota, wanted, coalesce(sent || blocked, '{}'), at, stopped.countries) AS due;
            EXIT WHEN batch.number = 0;
            IF cardinality(turns) < slots THEN
                last_served := batch.clients[batch.number];
            END IF;
            sent := sent || batch.sent;
            blocked := blocked || batch.blocked;
            counted := counted || batch.counted;
            of_clients := of_clients || batch.of_clients;
            of_countries := of_countries || batch.of_countries;
            wanted := wanted - batch.number;
            EXIT WHEN wanted = 0;
            -- A client that filled its quota may have more.
            turns := ARRAY(
                SELECT of.client FROM unnest(batch.clients) WITH ORDINALITY AS of (client, place)
                GROUP BY of.client HAVING count(*) = quota ORDER BY min(of.place)
            );
        END LOOP;
    END IF;
    IF sent IS NULL AND blocked IS NULL THEN
        next_due := next_due(at);
        client_id := last_served;
        RETURN NEXT;
        RETURN;
    END IF;
    IF counted IS NOT NULL THEN
        IF (SELECT count(*) FROM (SELECT FROM clients LIMIT 2) AS several) < 2 THEN
            cap_by_share := NULL;
        END IF;
        SELECT array_agg(w.scope) AS scopes, array_agg(w.subject) AS subjects, array_agg(w.number) AS numbers,
               array_agg(w.cap) AS caps
        INTO increments
        FROM (
            SELECT 'all' AS scope, '' AS subject, cardinality(counted)::bigint AS number, cap::bigint AS cap
            UNION ALL
            SELECT 'client', of.client::text, count(*), (
                       SELECT coalesce(
                                  CASE WHEN c.settings ->> 'daily_cap' ~ '^[0-9]{1,9}$'
                                       THEN (c.settings ->> 'daily_cap')::integer END,
                                  cap_per_client, cap_by_share
                              )
                       FROM clients AS c WHERE c.id = of.client
                   )
            FROM unnest(of_clients) AS of (client) GROUP BY of.client
            UNION ALL
            SELECT 'country', of.country, count(*),
                   coalesce(caps_by_country ->> of.country, caps_by_country ->> '*')::integer
            FROM unnest(of_countries) AS of (country) GROUP BY of.country
        ) AS w;
        -- All are counted first; those that do not fit are subtracted again.
        SELECT * INTO counts
        FROM count_sends(of_day, increments.scopes, increments.subjects, increments.numbers, increments.caps);
        IF counts.is_uncertain THEN
            PERFORM take_off_counts(counted, of_day, counts.shard);
            sent := ARRAY(SELECT id FROM unnest(sent) AS id WHERE id <> ALL (counted));
        ELSIF counts.are_tight THEN
            SELECT f.later, f.over INTO counted, over
            FROM fit_under_caps(counted, increments.scopes, increments.subjects, counts.rooms) AS f;
            PERFORM take_off_counts(counted || over, of_day, counts.shard);
            sent := ARRAY(SELECT id FROM unnest(sent) AS id WHERE id <> ALL (counted) AND id <> ALL (over));
        END IF;
    END IF;
    IF blocked IS NOT NULL OR over IS NOT NULL THEN
        RETURN QUERY
        WITH ended AS (
            SELECT id, 'blocked' AS fate, 'number_not_allowed' AS reason FROM unnest(blocked) AS id
            UNION ALL
            SELECT id, 'over_cap', 'daily_cap' FROM unnest(over) AS id
        )
        UPDATE otp_requests AS r
        SET status = CASE WHEN r.status = 'queued' THEN 'failed' ELSE r.status END,
            reason = CASE WHEN r.status = 'queued' THEN ended.reason ELSE r.reason END,
            finished_at = CASE WHEN r.status = 'queued' THEN at ELSE r.finished_at END,
            resend = CASE WHEN r.resend = 'pending' THEN 'failed' ELSE r.resend END,
            resend_reason = CASE WHEN r.resend = 'pending' THEN ended.reason ELSE r.resend_reason END,
            send_state = 'idle', next_attempt_at = NULL, updated_at = at
        FROM ended WHERE r.id = ended.id
        RETURNING ended.fate, NULL::timestamptz, r.id, r.client_id, r.country, r.attempt, r.tries, r.unknowns,
                  r.send_by, r.language, r.status, r.send_kind, r.sends, NULL, NULL, NULL::bytea, NULL,
                  r.is_test, NULL, NULL, NULL::smallint, NULL::timestamptz, NULL::bytea, NULL::bytea;
    END IF;
    RETURN QUERY
    WITH claimed AS (
        UPDATE otp_requests AS r
        SET send_state = 'claimed', next_attempt_at = NULL, updated_at = at,
            lease_until = statement_timestamp() + make_interval(secs => lease_s),
            attempt = r.attempt + 1, tries = r.tries + 1
        WHERE r.id = ANY (sent)
        RETURNING r.*
    ), numbered AS (
        INSERT INTO send_attempts (request_id, number, worker, claimed_at, kind, channel)
        SELECT c.id, c.attempt, by_worker, at, c.send_kind, coalesce(c.resend_channel, c.channel)
        FROM claimed AS c
    )
    SELECT 'send', NULL::timestamptz, c.id, c.client_id, c.country, c.attempt, c.tries, c.unknowns,
           c.send_by, c.language, c.status, c.send_kind, c.sends, c.pin_id,
           coalesce(c.resend_channel, c.channel), c.number_sealed, c.seal_key_id, c.is_test, c.trace_context,
           c.guard_block, c.guard_counted, c.created_at, c.number_hash, c.client_ip_hash
    FROM claimed AS c;
    next_due := NULL;
    client_id := last_served;
    RETURN NEXT;
END
$$
