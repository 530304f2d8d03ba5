-- A database of otpqueue 0.1.0 (schema 0014), written by its own processes: pg_dump --no-owner --inserts.
-- Sealing key k1: 32 bytes 's'; look-up key: 32 bytes 'h'; as in tests/conftest.py.
--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: checks_tell_statistics(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.checks_tell_statistics() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', coalesce(c.finished_at, c.started_at)), r.client_id,
           coalesce(r.country, 'ZZ'), r.channel, 'checks', c.verdict,
           CASE WHEN c.latency_ms IS NOT NULL THEN 'provider_checks' END,
           CASE WHEN c.latency_ms IS NOT NULL THEN coalesce(c.http_status::text, 'none') END,
           c.sign, c.sign * coalesce(c.latency_ms, 0)
    FROM (
        VALUES (1, NEW.finished_at, NEW.started_at, NEW.verdict, NEW.http_status, NEW.latency_ms),
               (-1, OLD.finished_at, OLD.started_at, OLD.verdict, OLD.http_status, OLD.latency_ms)
    ) AS c (sign, finished_at, started_at, verdict, http_status, latency_ms)
    JOIN otp_requests AS r ON r.id = NEW.request_id
    WHERE c.verdict IS NOT NULL AND NOT r.is_test;
    RETURN NULL;
END
$$;


--
-- Name: idempotency_keys_forget_answer(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.idempotency_keys_forget_answer() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.answer := NULL;
    RETURN NEW;
END
$$;


--
-- Name: otp_requests_count_ends(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.otp_requests_count_ends() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    at timestamptz := date_trunc('hour', NEW.created_at, 'UTC');
    ended boolean := NEW.finished_at IS NOT NULL;
    good integer := 0;
    back integer := 0;
BEGIN
    IF NEW.unknowns = 0 THEN
        IF OLD.resend = 'pending' AND NEW.resend = 'failed' AND NEW.send_state = 'idle' THEN
            back := 1;
        END IF;
        IF ended AND OLD.status = 'queued' AND NEW.send_state = 'idle' THEN
            back := 1;
        END IF;
    END IF;
    IF NEW.status = 'verified' THEN
        good := NEW.sends - back;
    END IF;
    IF good > 0 OR back > 0 THEN
        IF NEW.guard_as = 'new' THEN
            UPDATE guard_tallies
            SET sent = greatest(sent - back, verified),
                verified = least(greatest(sent - back, verified), verified + good)
            WHERE subject = '*' AND hour = at;
            UPDATE guard_tallies
            SET sent = greatest(sent - back, verified),
                verified = least(greatest(sent - back, verified), verified + good)
            WHERE subject = coalesce(NEW.country, 'ZZ') AND hour = at;
            UPDATE guard_addresses SET verified = verified + 1
            WHERE address_hash = NEW.client_ip_hash AND hour = at AND good > 0;
        END IF;
        IF NEW.guard_as = 'refused' THEN
            UPDATE guard_tallies
            SET sent = sent + good, verified = verified + good, shadowed = greatest(shadowed - back, 0),
                shadowed_verified = shadowed_verified + good
            WHERE subject = NEW.guard_block AND hour = at;
        ELSE
            UPDATE guard_tallies
            SET sent = greatest(sent - back, verified),
                verified = least(greatest(sent - back, verified), verified + good)
            WHERE subject = NEW.guard_block AND hour = at;
        END IF;
    END IF;
    IF ended THEN
        NEW.guard_block := NULL;
    END IF;
    RETURN NEW;
END
$$;


--
-- Name: otp_requests_note_moves(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.otp_requests_note_moves() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        INSERT INTO moves (request_id, at, of, was, became, reason)
        VALUES (NEW.id, NEW.updated_at, 'status', OLD.status, NEW.status, NEW.reason);
    END IF;
    IF NEW.resend IS DISTINCT FROM OLD.resend THEN
        INSERT INTO moves (request_id, at, of, was, became, reason)
        VALUES (NEW.id, NEW.updated_at, 'resend', OLD.resend, NEW.resend, NEW.resend_reason);
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: otp_requests_tell_client(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.otp_requests_tell_client() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    wait_until timestamptz;
BEGIN
    IF EXISTS (
        SELECT FROM webhook_endpoints AS e
        WHERE e.client_id = NEW.client_id AND e.disabled_at IS NULL
          AND 'otp_request.' || NEW.status = ANY(e.events)
    ) THEN
        IF OLD.status <> 'queued' THEN
            SELECT max(d.next_try_at) INTO wait_until FROM webhook_deliveries AS d
            WHERE d.request_id = NEW.id AND d.state = 'pending';
        END IF;
        INSERT INTO webhook_deliveries
            (request_id, client_id, event, at, reason, provider_code, expires_at, next_try_at)
        VALUES (NEW.id, NEW.client_id, 'otp_request.' || NEW.status, NEW.updated_at, NEW.reason,
                NEW.provider_code, NEW.expires_at, greatest(NEW.updated_at, wait_until));
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: otp_requests_tell_made(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.otp_requests_tell_made() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), NEW.channel,
            'requested', '', 1, 0);
    RETURN NULL;
END
$$;


--
-- Name: otp_requests_tell_moved(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.otp_requests_tell_moved() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.status = 'sent' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.sent_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'sent', '', 'accept_to_sent', stat_bucket(ms), 1, ms
        FROM stat_ms(NEW.created_at, coalesce(NEW.sent_at, NEW.updated_at)) AS ms;
    ELSIF NEW.status = 'verified' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.verified_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'verified', '', 'sent_to_verified', stat_bucket(ms),
               1, ms
        FROM stat_ms(coalesce(NEW.sent_at, NEW.created_at), coalesce(NEW.verified_at, NEW.updated_at)) AS ms;
    ELSE
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
        VALUES (date_trunc('minute', coalesce(NEW.finished_at, NEW.updated_at)), NEW.client_id,
                coalesce(NEW.country, 'ZZ'), NEW.channel, NEW.status,
                CASE WHEN NEW.status <> 'expired' OR NEW.sent_at IS NULL THEN coalesce(NEW.reason, '')
                     WHEN NEW.check_number > 0 THEN 'checked' ELSE 'unchecked' END, 1, 0);
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: refusals_tell_first(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.refusals_tell_first() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count, 0);
    RETURN NULL;
END
$$;


--
-- Name: refusals_tell_more(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.refusals_tell_more() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count - OLD.count, 0);
    RETURN NULL;
END
$$;


--
-- Name: send_attempts_tell_statistics(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.send_attempts_tell_statistics() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', told.at), r.client_id, coalesce(r.country, 'ZZ'), a.channel,
           told.metric, told.label, told.also, told.also_label, sum(a.sign), sum(a.sign * told.total)
    FROM (SELECT 1 AS sign, * FROM new_attempts UNION ALL SELECT -1, * FROM old_attempts) AS a
    JOIN otp_requests AS r ON r.id = a.request_id
    CROSS JOIN LATERAL (
        SELECT coalesce(a.finished_at, a.claimed_at), 'attempts', a.outcome,
               CASE WHEN a.latency_ms IS NOT NULL THEN 'provider_sends' END,
               CASE WHEN a.latency_ms IS NOT NULL THEN coalesce(a.http_status::text, 'none') END,
               coalesce(a.latency_ms, 0)::numeric
        WHERE a.outcome IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), 'delivered', '', 'sent_to_delivered',
               stat_bucket(stat_ms(a.finished_at, a.done_at)), stat_ms(a.finished_at, a.done_at)
        WHERE a.delivery = 'delivered' AND a.done_at IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), a.delivery, '', NULL, NULL, 0
        WHERE a.delivery = 'undelivered' OR (a.delivery = 'delivered' AND a.done_at IS NULL)
        UNION ALL
        SELECT coalesce(a.finished_at, a.claimed_at), 'cost', coalesce(a.currency, ''), NULL, NULL, a.price
        WHERE a.price IS NOT NULL
    ) AS told (at, metric, label, also, also_label, total)
    WHERE NOT r.is_test
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    HAVING sum(a.sign) <> 0 OR sum(a.sign * told.total) <> 0;
    RETURN NULL;
END
$$;


--
-- Name: stat_bucket(bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.stat_bucket(ms bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT coalesce((ARRAY[
        50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10000, 15000,
        20000, 30000, 45000, 60000, 90000, 120000, 180000, 300000, 600000, 1800000,
        3600000
    ])[1 + width_bucket(greatest(ms, 1) - 1, ARRAY[
        50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10000, 15000,
        20000, 30000, 45000, 60000, 90000, 120000, 180000, 300000, 600000, 1800000,
        3600000
    ]::bigint[])]::text, 'inf')
$$;


--
-- Name: stat_ms(timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.stat_ms(began timestamp with time zone, ended timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT greatest(round(extract(epoch FROM ended - began) * 1000), 0)::bigint
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: alert_evaluations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_evaluations (
    at timestamp with time zone NOT NULL,
    watch text NOT NULL,
    took_ms integer NOT NULL,
    measures integer NOT NULL,
    opened integer NOT NULL,
    closed integer NOT NULL,
    waiting bigint
);


--
-- Name: alert_history; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_history (
    alert_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    what text NOT NULL,
    actor text,
    detail text
);


--
-- Name: alert_history_number_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.alert_history ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.alert_history_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: alert_notices; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_notices (
    id uuid NOT NULL,
    alert_id uuid NOT NULL,
    transition text NOT NULL,
    channel text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    next_try_at timestamp with time zone,
    lease_until timestamp with time zone,
    delivered_at timestamp with time zone,
    problem text,
    CONSTRAINT alert_notices_channel_check CHECK ((channel = ANY (ARRAY['email'::text, 'log'::text, 'webhook'::text]))),
    CONSTRAINT alert_notices_delivered_is_done_check CHECK (((delivered_at IS NULL) OR (next_try_at IS NULL))),
    CONSTRAINT alert_notices_transition_check CHECK ((transition = ANY (ARRAY['closed'::text, 'opened'::text])))
);


--
-- Name: alert_pending; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_pending (
    rule text NOT NULL,
    subject text NOT NULL,
    number_hash bytea,
    bad smallint NOT NULL,
    evaluated_at timestamp with time zone NOT NULL
);


--
-- Name: alert_silences; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_silences (
    id uuid NOT NULL,
    rule text NOT NULL,
    subject text,
    number_hash bytea,
    until timestamp with time zone NOT NULL,
    reason text,
    silenced_by text NOT NULL,
    silenced_at timestamp with time zone NOT NULL
);


--
-- Name: alert_values; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alert_values (
    alert_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    value double precision,
    sample bigint NOT NULL
);


--
-- Name: alerts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alerts (
    id uuid NOT NULL,
    rule text NOT NULL,
    subject text,
    number_hash bytea,
    state text NOT NULL,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    window_s integer NOT NULL,
    sample bigint NOT NULL,
    evaluated_at timestamp with time zone NOT NULL,
    good smallint DEFAULT '0'::smallint NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    evidence jsonb,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    CONSTRAINT alerts_closed_has_time_check CHECK (((state = 'closed'::text) = (closed_at IS NOT NULL))),
    CONSTRAINT alerts_state_check CHECK ((state = ANY (ARRAY['closed'::text, 'open'::text])))
);


--
-- Name: api_keys; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.api_keys (
    id uuid NOT NULL,
    client_id uuid NOT NULL,
    prefix text NOT NULL,
    key_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    note text,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    replaced_by uuid
);


--
-- Name: check_counts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.check_counts (
    client_id uuid NOT NULL,
    minute timestamp with time zone NOT NULL,
    shard smallint NOT NULL,
    checks integer NOT NULL,
    wrong integer NOT NULL
);


--
-- Name: checks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.checks (
    request_id uuid NOT NULL,
    number smallint NOT NULL,
    client_ip_hash bytea,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    verdict text,
    code text,
    http_status smallint,
    latency_ms integer,
    CONSTRAINT checks_verdict_check CHECK (((verdict IS NULL) OR (verdict = ANY (ARRAY['correct'::text, 'exhausted'::text, 'expired'::text, 'unjudged'::text, 'unknown'::text, 'wrong'::text]))))
);


--
-- Name: clients; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.clients (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL
);


--
-- Name: do_not_send; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.do_not_send (
    id uuid NOT NULL,
    number_sealed bytea NOT NULL,
    seal_key_id text NOT NULL,
    number_hash bytea NOT NULL,
    reason text,
    until timestamp with time zone,
    created_at timestamp with time zone NOT NULL
);


--
-- Name: erasures; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.erasures (
    id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    client_id uuid,
    counts jsonb NOT NULL
);


--
-- Name: guard_addresses; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.guard_addresses (
    address_hash bytea NOT NULL,
    hour timestamp with time zone NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    verified integer DEFAULT 0 NOT NULL
);


--
-- Name: guard_decisions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.guard_decisions (
    minute timestamp with time zone NOT NULL,
    client_id uuid NOT NULL,
    country text NOT NULL,
    mode text NOT NULL,
    reason text NOT NULL,
    block text NOT NULL,
    tries integer NOT NULL,
    at_risk integer NOT NULL,
    budget double precision NOT NULL,
    CONSTRAINT guard_decisions_mode_check CHECK ((mode = ANY (ARRAY['enforce'::text, 'off'::text, 'shadow'::text])))
);


--
-- Name: guard_exceptions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.guard_exceptions (
    subject text NOT NULL,
    until timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL
);


--
-- Name: guard_tallies; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.guard_tallies (
    subject text NOT NULL,
    hour timestamp with time zone NOT NULL,
    country text NOT NULL,
    sent integer DEFAULT 0 NOT NULL,
    verified integer DEFAULT 0 NOT NULL,
    refused integer DEFAULT 0 NOT NULL,
    shadowed integer DEFAULT 0 NOT NULL,
    shadowed_verified integer DEFAULT 0 NOT NULL,
    CONSTRAINT guard_tallies_verified_of_sent_check CHECK (((verified >= 0) AND (verified <= sent)))
)
WITH (fillfactor='70');


--
-- Name: heartbeats; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.heartbeats (
    process text NOT NULL,
    kind text NOT NULL,
    queues text[] NOT NULL,
    in_touch boolean NOT NULL,
    heard_at timestamp with time zone,
    version text NOT NULL,
    skew_s double precision,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    CONSTRAINT heartbeats_kind_check CHECK ((kind = ANY (ARRAY['api'::text, 'beat'::text, 'worker'::text])))
)
WITH (fillfactor='50');


--
-- Name: idempotency_keys; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.idempotency_keys (
    client_id uuid NOT NULL,
    key_hash bytea NOT NULL,
    fingerprint bytea NOT NULL,
    request_id uuid,
    answer jsonb,
    lease_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT idempotency_keys_answered_is_free_check CHECK (((lease_until IS NULL) OR (answer IS NULL)))
);


--
-- Name: moves; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.moves (
    request_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    of text NOT NULL,
    was text,
    became text NOT NULL,
    reason text,
    CONSTRAINT moves_of_check CHECK ((of = ANY (ARRAY['resend'::text, 'status'::text])))
);


--
-- Name: moves_number_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.moves ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.moves_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: number_guesses; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.number_guesses (
    client_id uuid NOT NULL,
    number_hash bytea NOT NULL,
    wrong_in_a_row integer NOT NULL,
    unlocked_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT number_guesses_wrong_in_a_row_check CHECK ((wrong_in_a_row >= 0))
);


--
-- Name: otp_requests; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.otp_requests (
    id uuid NOT NULL,
    client_id uuid NOT NULL,
    number_sealed bytea NOT NULL,
    seal_key_id text NOT NULL,
    number_hash bytea NOT NULL,
    country text,
    session_hash bytea,
    client_ip_hash bytea,
    client_reference text,
    channel text NOT NULL,
    language text,
    status text NOT NULL,
    reason text,
    provider_code text,
    send_state text NOT NULL,
    next_attempt_at timestamp with time zone,
    lease_until timestamp with time zone,
    attempt smallint DEFAULT '0'::smallint NOT NULL,
    tries smallint DEFAULT '0'::smallint NOT NULL,
    unknowns smallint DEFAULT '0'::smallint NOT NULL,
    pin_id text,
    checks_allowed smallint NOT NULL,
    checks_used smallint DEFAULT '0'::smallint NOT NULL,
    checks_given_back smallint DEFAULT '0'::smallint NOT NULL,
    check_number smallint DEFAULT '0'::smallint NOT NULL,
    check_lease_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    send_by timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    expires_at timestamp with time zone,
    verified_at timestamp with time zone,
    finished_at timestamp with time zone,
    send_kind text DEFAULT 'fresh'::text NOT NULL,
    sends smallint DEFAULT '1'::smallint NOT NULL,
    resend text,
    resend_channel text,
    resend_reason text,
    resend_after timestamp with time zone,
    is_test boolean DEFAULT false NOT NULL,
    guard_block text,
    guard_as text,
    trace_context text,
    CONSTRAINT otp_requests_checks_bounded_check CHECK (((checks_used >= 0) AND (checks_used <= checks_allowed))),
    CONSTRAINT otp_requests_claimed_has_lease_check CHECK (((send_state = 'claimed'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT otp_requests_due_has_time_check CHECK (((send_state = 'due'::text) = (next_attempt_at IS NOT NULL))),
    CONSTRAINT otp_requests_resend_check CHECK (((resend IS NULL) OR (resend = ANY (ARRAY['failed'::text, 'pending'::text, 'sent'::text])))),
    CONSTRAINT otp_requests_send_kind_check CHECK ((send_kind = ANY (ARRAY['fresh'::text, 'resend'::text]))),
    CONSTRAINT otp_requests_send_state_check CHECK ((send_state = ANY (ARRAY['claimed'::text, 'due'::text, 'idle'::text]))),
    CONSTRAINT otp_requests_sent_expires_check CHECK (((pin_id IS NULL) OR (expires_at IS NOT NULL))),
    CONSTRAINT otp_requests_status_check CHECK ((status = ANY (ARRAY['cancelled'::text, 'delivered'::text, 'expired'::text, 'failed'::text, 'locked'::text, 'queued'::text, 'sent'::text, 'undelivered'::text, 'verified'::text])))
)
WITH (fillfactor='70');


--
-- Name: provider_ids; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.provider_ids (
    base_url text NOT NULL,
    application_name text NOT NULL,
    application_id text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    message_ids jsonb NOT NULL
);


--
-- Name: receipts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.receipts (
    id uuid NOT NULL,
    message_id text NOT NULL,
    delivery text NOT NULL,
    status text NOT NULL,
    error text,
    done_at timestamp with time zone,
    price numeric,
    currency text,
    received_at timestamp with time zone NOT NULL,
    request_id uuid,
    attempt smallint,
    CONSTRAINT receipts_delivery_check CHECK ((delivery = ANY (ARRAY['delivered'::text, 'pending'::text, 'undelivered'::text])))
);


--
-- Name: refusals; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.refusals (
    id uuid NOT NULL,
    client_id uuid NOT NULL,
    reason text NOT NULL,
    number_hash bytea,
    client_ip_hash bytea,
    created_at timestamp with time zone NOT NULL,
    minute timestamp with time zone,
    count integer DEFAULT 1 NOT NULL,
    country text,
    is_test boolean DEFAULT false NOT NULL
);


--
-- Name: send_attempts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.send_attempts (
    request_id uuid NOT NULL,
    number smallint NOT NULL,
    worker text NOT NULL,
    claimed_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    outcome text,
    retryable boolean,
    code text,
    http_status smallint,
    pin_id text,
    latency_ms integer,
    kind text DEFAULT 'fresh'::text NOT NULL,
    channel text DEFAULT 'sms'::text NOT NULL,
    evidence text,
    external_message_id text,
    delivery text,
    delivery_status text,
    delivery_error text,
    done_at timestamp with time zone,
    price numeric,
    currency text,
    reported_at timestamp with time zone,
    CONSTRAINT send_attempts_delivery_check CHECK (((delivery IS NULL) OR (delivery = ANY (ARRAY['delivered'::text, 'pending'::text, 'undelivered'::text])))),
    CONSTRAINT send_attempts_evidence_check CHECK (((evidence IS NULL) OR (evidence = ANY (ARRAY['left'::text, 'no_answer'::text, 'not_seen'::text])))),
    CONSTRAINT send_attempts_outcome_check CHECK (((outcome IS NULL) OR (outcome = ANY (ARRAY['accepted'::text, 'refused'::text, 'returned'::text, 'unknown'::text]))))
);


--
-- Name: send_counts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.send_counts (
    day date NOT NULL,
    scope text NOT NULL,
    subject text NOT NULL,
    taken integer DEFAULT 0 NOT NULL,
    CONSTRAINT send_counts_scope_check CHECK ((scope = ANY (ARRAY['all'::text, 'client'::text, 'country'::text]))),
    CONSTRAINT send_counts_taken_check CHECK ((taken >= 0))
)
WITH (fillfactor='50');


--
-- Name: sending_stops; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sending_stops (
    id uuid NOT NULL,
    scope text NOT NULL,
    subject text NOT NULL,
    reason text,
    stopped_by text NOT NULL,
    stopped_at timestamp with time zone NOT NULL,
    resumed_by text,
    resumed_at timestamp with time zone,
    CONSTRAINT sending_stops_scope_check CHECK ((scope = ANY (ARRAY['all'::text, 'client'::text, 'country'::text])))
);


--
-- Name: stat_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.stat_events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    client_id uuid NOT NULL,
    country text NOT NULL,
    channel text NOT NULL,
    metric text NOT NULL,
    label text NOT NULL,
    also text,
    also_label text,
    n integer NOT NULL,
    total numeric NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');


--
-- Name: stat_events_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.stat_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.stat_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: stats_hours; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.stats_hours (
    at timestamp with time zone NOT NULL,
    client_id uuid NOT NULL,
    country text NOT NULL,
    channel text NOT NULL,
    metric text NOT NULL,
    label text NOT NULL,
    n bigint NOT NULL,
    total numeric NOT NULL
)
WITH (fillfactor='45');


--
-- Name: stats_minutes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.stats_minutes (
    at timestamp with time zone NOT NULL,
    client_id uuid NOT NULL,
    country text NOT NULL,
    channel text NOT NULL,
    metric text NOT NULL,
    label text NOT NULL,
    n bigint NOT NULL,
    total numeric NOT NULL
)
WITH (fillfactor='50');


--
-- Name: webhook_deliveries; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.webhook_deliveries (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    number bigint NOT NULL,
    request_id uuid NOT NULL,
    client_id uuid NOT NULL,
    event text NOT NULL,
    at timestamp with time zone NOT NULL,
    reason text,
    provider_code text,
    expires_at timestamp with time zone,
    state text DEFAULT 'pending'::text NOT NULL,
    tries smallint DEFAULT '0'::smallint NOT NULL,
    next_try_at timestamp with time zone,
    lease_until timestamp with time zone,
    tried_at timestamp with time zone,
    http_status smallint,
    problem text,
    CONSTRAINT webhook_deliveries_event_check CHECK ((event = ANY (ARRAY['otp_request.cancelled'::text, 'otp_request.delivered'::text, 'otp_request.expired'::text, 'otp_request.failed'::text, 'otp_request.locked'::text, 'otp_request.sent'::text, 'otp_request.undelivered'::text, 'otp_request.verified'::text]))),
    CONSTRAINT webhook_deliveries_held_is_pending_check CHECK (((lease_until IS NULL) OR (state = 'pending'::text))),
    CONSTRAINT webhook_deliveries_pending_has_time_check CHECK (((state = 'pending'::text) = (next_try_at IS NOT NULL))),
    CONSTRAINT webhook_deliveries_state_check CHECK ((state = ANY (ARRAY['delivered'::text, 'given_up'::text, 'pending'::text])))
)
WITH (fillfactor='70');


--
-- Name: webhook_deliveries_number_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.webhook_deliveries ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.webhook_deliveries_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: webhook_endpoints; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.webhook_endpoints (
    id uuid NOT NULL,
    client_id uuid NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    secrets_sealed bytea NOT NULL,
    seal_key_id text NOT NULL,
    previous_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    failing_since timestamp with time zone,
    disabled_at timestamp with time zone,
    disabled_reason text,
    CONSTRAINT webhook_endpoints_disabled_has_reason_check CHECK (((disabled_at IS NULL) = (disabled_reason IS NULL))),
    CONSTRAINT webhook_endpoints_disabled_reason_check CHECK (((disabled_reason IS NULL) OR (disabled_reason = ANY (ARRAY['failing'::text, 'gone'::text, 'secret_lost'::text]))))
);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES
	('0014');


--
-- Data for Name: alert_evaluations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alert_evaluations VALUES
	('2026-11-29 16:39:52.629034+00', 'workers', 114, 4, 0, 0, NULL),
	('2026-11-29 16:40:08.769451+00', 'workers', 12, 4, 0, 0, NULL),
	('2026-11-29 16:40:26.262408+00', 'workers', 3, 4, 0, 0, NULL),
	('2026-11-29 16:40:38.665963+00', 'rules', 412, 15, 1, 0, 107),
	('2026-11-29 16:40:41.001827+00', 'workers', 5, 4, 0, 0, NULL),
	('2026-11-29 16:40:55.995936+00', 'workers', 22, 4, 0, 0, NULL),
	('2026-11-29 16:41:08.277609+00', 'workers', 28, 4, 0, 0, NULL),
	('2026-11-29 16:41:22.269478+00', 'workers', 8, 4, 0, 0, NULL),
	('2026-11-29 16:41:38.658217+00', 'rules', 160, 15, 0, 0, 112),
	('2026-11-29 16:41:39.018241+00', 'workers', 5, 4, 0, 0, NULL),
	('2026-11-29 16:41:51.597403+00', 'workers', 20, 4, 0, 0, NULL),
	('2026-11-29 16:42:07.214198+00', 'workers', 9, 4, 0, 0, NULL),
	('2026-11-29 16:42:24.220319+00', 'workers', 7, 4, 0, 0, NULL),
	('2026-11-29 16:42:37.525878+00', 'workers', 16, 4, 0, 0, NULL),
	('2026-11-29 16:42:38.672127+00', 'rules', 298, 15, 0, 0, 125),
	('2026-11-29 16:42:53.189464+00', 'workers', 12, 4, 0, 0, NULL),
	('2026-11-29 16:43:06.445118+00', 'workers', 6, 4, 0, 0, NULL),
	('2026-11-29 16:43:20.709511+00', 'workers', 9, 4, 0, 0, NULL),
	('2026-11-29 16:43:38.608481+00', 'workers', 14, 4, 0, 0, NULL),
	('2026-11-29 16:43:38.66551+00', 'rules', 512, 15, 0, 0, NULL),
	('2026-11-29 16:43:51.885378+00', 'workers', 11, 4, 0, 0, NULL);


--
-- Data for Name: alert_history; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alert_history OVERRIDING SYSTEM VALUE VALUES
	('01a2282e-17d9-7478-94c3-ad961aa11de2', 1, '2026-11-29 16:40:38.665963+00', 'opened', NULL, NULL),
	('01a2282e-17d9-7478-94c3-ad961aa11de2', 2, '2026-11-29 16:40:48.749846+00', 'notice_delivered', NULL, 'opened by log');


--
-- Data for Name: alert_notices; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alert_notices VALUES
	('01a2282e-17ff-76e3-9a95-273bd0a5948d', '01a2282e-17d9-7478-94c3-ad961aa11de2', 'opened', 'log', '2026-11-29 16:40:38.665963+00', 1, NULL, NULL, '2026-11-29 16:40:48.749846+00', NULL);


--
-- Data for Name: alert_pending; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: alert_silences; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: alert_values; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alert_values VALUES
	('01a2282e-17d9-7478-94c3-ad961aa11de2', '2026-11-29 16:40:38.665963+00', 6, 30),
	('01a2282e-17d9-7478-94c3-ad961aa11de2', '2026-11-29 16:41:38.658217+00', 6, 31),
	('01a2282e-17d9-7478-94c3-ad961aa11de2', '2026-11-29 16:42:38.672127+00', 6, 35),
	('01a2282e-17d9-7478-94c3-ad961aa11de2', '2026-11-29 16:43:38.66551+00', 6, 35);


--
-- Data for Name: alerts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alerts VALUES
	('01a2282e-17d9-7478-94c3-ad961aa11de2', 'provider_5xx', 'all', NULL, 'open', 6, 1, 300, 35, '2026-11-29 16:43:38.66551+00', 0, '2026-11-29 16:40:38.665963+00', NULL, '{"series": {"unit": "count", "points": [{"at": "2026-11-29T16:40:00Z", "value": 6, "sample": 31}], "step_s": 60}, "figures": {"calls": 30, "http_500": 6}, "reasons": {}, "requests": ["01a2282d-b8a1-7043-a3c0-d20a2b39d384"]}', NULL, NULL);


--
-- Data for Name: api_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.api_keys VALUES
	('01a2282f-7203-738a-bed9-df28e3dcfede', '01a2282f-7203-738a-bed9-df29d702c6b9', 'oq_2hv4twvp', '\xb12e2107a8c8a9043af5387cde4fe38eca04fc47f6f732fc566b53be89df88bf', '{verify}', '2026-11-29 16:42:07.72838+00', NULL, 'checkout', '2027-02-27 16:42:07.72838+00', NULL, NULL),
	('01a2282c-f61c-7279-b652-3016e205bf4c', '01a2282c-f61c-7279-b652-3017da45ed9c', 'oq_ur28mbhe', '\xb12e31d60eb718a85f3e217beb5ffddcd95df23a012ec93bd67ab557de9e97c5', '{send,verify}', '2026-11-29 16:39:22.882999+00', NULL, NULL, NULL, '2026-11-29 16:43:38.63417+00', NULL),
	('01a2282c-f640-73d2-ae23-210812a5bdc9', '01a2282c-f61c-7279-b652-3017da45ed9c', 'oq_rfiugfcw', '\xb12ebccbb485ab1ae0771141c250fdaa4840770bf11e85627babba513b3a0763', '{admin,send,verify}', '2026-11-29 16:39:22.882999+00', NULL, NULL, NULL, '2026-11-29 16:43:40.908101+00', NULL);


--
-- Data for Name: check_counts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.check_counts VALUES
	('01a2282c-f61c-7279-b652-3017da45ed9c', '2026-11-29 16:40:00+00', 6, 2, 1),
	('01a2282c-f61c-7279-b652-3017da45ed9c', '2026-11-29 16:40:00+00', 0, 5, 5),
	('01a2282c-f61c-7279-b652-3017da45ed9c', '2026-11-29 16:42:00+00', 6, 1, 0);


--
-- Data for Name: checks; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.checks VALUES
	('01a2282d-b011-7498-b465-106e2ee4c11e', 1, '\xb12e9dad13184e4223ffb11de7c1c88e11e3de2dfacf49dda9de5e71c4b76cc8', '2026-11-29 16:40:13.016145+00', '2026-11-29 16:40:13.044401+00', 'wrong', 'WRONG_PIN', 200, 11),
	('01a2282d-b011-7498-b465-106e2ee4c11e', 2, '\xb12e9dad13184e4223ffb11de7c1c88e11e3de2dfacf49dda9de5e71c4b76cc8', '2026-11-29 16:40:13.145866+00', '2026-11-29 16:40:13.173559+00', 'correct', 'VERIFIED', 200, 5),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 1, NULL, '2026-11-29 16:40:13.567162+00', '2026-11-29 16:40:13.58956+00', 'wrong', 'WRONG_PIN', 200, 4),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 2, NULL, '2026-11-29 16:40:13.656054+00', '2026-11-29 16:40:13.682351+00', 'wrong', 'WRONG_PIN', 200, 5),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 3, NULL, '2026-11-29 16:40:13.769399+00', '2026-11-29 16:40:13.791418+00', 'wrong', 'WRONG_PIN', 200, 6),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 4, NULL, '2026-11-29 16:40:13.836846+00', '2026-11-29 16:40:13.850469+00', 'wrong', 'WRONG_PIN', 200, 10),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 5, NULL, '2026-11-29 16:40:13.895044+00', '2026-11-29 16:40:13.914438+00', 'wrong', 'WRONG_PIN', 200, 5),
	('01a2282f-8393-7257-9c1e-716d56e07c3e', 1, NULL, '2026-11-29 16:42:28.526149+00', '2026-11-29 16:42:28.541755+00', 'correct', 'VERIFIED', 200, 3);


--
-- Data for Name: clients; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.clients VALUES
	('01a2282c-f61c-7279-b652-3017da45ed9c', 'dev', '2026-11-29 16:39:22.882999+00', '{}'),
	('01a2282f-7203-738a-bed9-df29d702c6b9', 'shop', '2026-11-29 16:42:07.72838+00', '{}');


--
-- Data for Name: do_not_send; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.do_not_send VALUES
	('01a2282f-6509-73c9-9b52-4878c7b90d2c', '\xb57cd116d66389e1e64e7a9d8505b09f91ee21b57bc78a8d77cb09a0244d71b05f2e4ca2d7234c7c61', 'k1', '\xb12e70d3714e3e37bd46c7e512868cb2c90d98d9b64b9d5aba8bf30225ea0976', 'asked', NULL, '2026-11-29 16:42:04.378437+00');


--
-- Data for Name: erasures; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: guard_addresses; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.guard_addresses VALUES
	('\xb12e9dad13184e4223ffb11de7c1c88e11e3de2dfacf49dda9de5e71c4b76cc8', '2026-11-29 16:00:00+00', 1, 1);


--
-- Data for Name: guard_decisions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.guard_decisions VALUES
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'shadow', 'chance_used', '44207946', 5, 1, 1),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'shadow', 'block_budget', '44770090', 7, 4, 3.5),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'shadow', 'block_budget', '44770090', 2, 4, 3.5),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'shadow', 'block_budget', '44770090', 1, 4, 3.5),
	('2026-11-29 16:43:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'shadow', 'block_budget', '44770090', 1, 4, 4);


--
-- Data for Name: guard_exceptions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.guard_exceptions VALUES
	('DE', '2026-12-29 16:40:46.07062+00', '2026-11-29 16:40:46.07062+00');


--
-- Data for Name: guard_tallies; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.guard_tallies VALUES
	('GB', '2026-11-29 16:00:00+00', 'GB', 2, 1, 0, 0, 0),
	('*', '2026-11-29 16:00:00+00', 'ZZ', 3, 1, 0, 0, 0),
	('DE', '2026-11-29 16:00:00+00', 'DE', 1, 0, 0, 0, 0),
	('491512345', '2026-11-29 16:00:00+00', 'DE', 1, 0, 0, 0, 0),
	('44207946', '2026-11-29 16:00:00+00', 'GB', 1, 0, 5, 4, 0),
	('44770090', '2026-11-29 16:00:00+00', 'GB', 6, 2, 11, 11, 1);


--
-- Data for Name: idempotency_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.idempotency_keys VALUES
	('01a2282c-f61c-7279-b652-3017da45ed9c', '\xb12e601e4a8ad145a1a897546a4f2330e1e29a423e08e5b871ac1f06431db34e', '\xb12e27dbf1f742d0539632e91e53a3da37a61c4bfae1594d3399c247210e7222', '01a2282d-b011-7498-b465-106e2ee4c11e', '{"body": "{\"id\": \"01a2282d-b011-7498-b465-106e2ee4c11e\", \"status\": \"queued\", \"reason\": null, \"provider_code\": null, \"phone_number\": \"+44********01\", \"channel\": \"sms\", \"client_reference\": \"order-1\", \"created_at\": \"2026-11-29T16:40:12.398Z\", \"send_by\": \"2026-11-29T16:41:42.398Z\", \"sent_at\": null, \"expires_at\": null, \"verified_at\": null, \"checks_left\": 5, \"sends_left\": 4, \"resend_after\": null, \"resend\": null}", "status": 202, "headers": {"Location": "/v1/otp-requests/01a2282d-b011-7498-b465-106e2ee4c11e", "Retry-After": "1"}}', NULL, '2026-11-29 16:40:12.398476+00', '2026-11-30 16:40:12.398476+00');


--
-- Data for Name: moves; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.moves OVERRIDING SYSTEM VALUE VALUES
	('01a2282d-b011-7498-b465-106e2ee4c11e', 1, '2026-11-29 16:40:12.85635+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b011-7498-b465-106e2ee4c11e', 2, '2026-11-29 16:40:13.173559+00', 'status', 'sent', 'verified', 'code_correct'),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 3, '2026-11-29 16:40:13.42129+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 4, '2026-11-29 16:40:13.914438+00', 'status', 'sent', 'locked', 'checks_exhausted'),
	('01a2282d-b5e5-7482-ad17-4621edc1f355', 5, '2026-11-29 16:40:14.13526+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b681-73d0-bc7f-3ed23c455aa9', 6, '2026-11-29 16:40:14.298754+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', 7, '2026-11-29 16:40:14.388063+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b765-7175-bd63-5a2fcd4ab5e3', 8, '2026-11-29 16:40:14.587308+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b82e-7442-bc60-0208dd9b6f07', 9, '2026-11-29 16:40:14.710836+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b917-7350-9259-400d3f3b5397', 10, '2026-11-29 16:40:14.957431+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b917-7350-9259-400d3f3b5397', 11, '2026-11-29 16:40:14.958083+00', 'status', 'sent', 'cancelled', 'cancelled_by_client'),
	('01a2282d-b9cd-7710-9262-09008c2986e5', 12, '2026-11-29 16:40:15.127688+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b5e5-7482-ad17-4621edc1f355', 13, '2026-11-29 16:40:15.164536+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-b9cd-7710-9262-09008c2986e5', 14, '2026-11-29 16:40:15.121505+00', 'status', 'sent', 'cancelled', 'replaced'),
	('01a2282d-ba41-7473-8c45-b740b4b26231', 15, '2026-11-29 16:40:15.265218+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b681-73d0-bc7f-3ed23c455aa9', 16, '2026-11-29 16:40:15.319847+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', 17, '2026-11-29 16:40:15.400514+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-baef-7664-b659-bfefb884fef3', 18, '2026-11-29 16:40:15.448466+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-bb6e-759d-9e48-56f9f600a68d', 19, '2026-11-29 16:40:15.505024+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-bbd1-71a9-aa1d-6af140887bc1', 20, '2026-11-29 16:40:15.624434+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-b765-7175-bd63-5a2fcd4ab5e3', 21, '2026-11-29 16:40:15.608222+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-b82e-7442-bc60-0208dd9b6f07', 22, '2026-11-29 16:40:15.757633+00', 'status', 'sent', 'undelivered', NULL),
	('01a2282d-bc6c-77a2-9aac-87d7f97d4e75', 23, '2026-11-29 16:40:15.805394+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-bc6c-77a2-9aac-87d7f97d4e75', 24, '2026-11-29 16:40:15.768658+00', 'status', 'sent', 'cancelled', 'replaced'),
	('01a2282d-bcba-7215-8dbf-ec38259e9923', 25, '2026-11-29 16:40:15.873583+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-bcba-7215-8dbf-ec38259e9923', 26, '2026-11-29 16:40:15.881506+00', 'status', 'sent', 'cancelled', 'replaced'),
	('01a2282d-bd7a-746c-bbff-e3dad688f5b4', 27, '2026-11-29 16:40:16.077639+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-ba41-7473-8c45-b740b4b26231', 28, '2026-11-29 16:40:16.281314+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-be9c-76e2-9110-c24e7ac84bfa', 29, '2026-11-29 16:40:16.357673+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-baef-7664-b659-bfefb884fef3', 30, '2026-11-29 16:40:16.459023+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-bbd1-71a9-aa1d-6af140887bc1', 31, '2026-11-29 16:40:16.648862+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-bd7a-746c-bbff-e3dad688f5b4', 32, '2026-11-29 16:40:17.091848+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-be9c-76e2-9110-c24e7ac84bfa', 33, '2026-11-29 16:40:17.375557+00', 'status', 'sent', 'delivered', NULL),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 34, '2026-11-29 16:40:19.632119+00', 'status', 'queued', 'failed', 'attempts_exhausted'),
	('01a2282d-faf5-7697-8e75-41497204dd38', 35, '2026-11-29 16:40:31.775773+00', 'status', 'queued', 'sent', NULL),
	('01a2282d-faf5-7697-8e75-41497204dd38', 36, '2026-11-29 16:40:32.788119+00', 'status', 'sent', 'delivered', NULL),
	('01a2282e-e186-71a8-8628-fc6058655ef3', 37, '2026-11-29 16:41:30.850485+00', 'status', 'queued', 'sent', NULL),
	('01a2282e-e186-71a8-8628-fc6058655ef3', 38, '2026-11-29 16:41:31.862974+00', 'status', 'sent', 'delivered', NULL),
	('01a2282e-e2d5-77d5-8a15-11585705fd48', 39, '2026-11-29 16:42:28.378862+00', 'status', 'queued', 'sent', NULL),
	('01a2282f-8393-7257-9c1e-716d56e07c3e', 40, '2026-11-29 16:42:28.373269+00', 'status', 'queued', 'sent', NULL),
	('01a2282f-8393-7257-9c1e-716d56e07c3e', 41, '2026-11-29 16:42:28.541755+00', 'status', 'sent', 'verified', 'code_correct'),
	('01a2282e-e2d5-77d5-8a15-11585705fd48', 42, '2026-11-29 16:42:29.398415+00', 'status', 'sent', 'delivered', NULL),
	('01a2282e-e2d5-77d5-8a15-11585705fd48', 43, '2026-11-29 16:43:38.683079+00', 'status', 'delivered', 'cancelled', 'replaced');


--
-- Data for Name: number_guesses; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.number_guesses VALUES
	('01a2282c-f61c-7279-b652-3017da45ed9c', '\xb12eecb0a440a0e813a425f84ea08d0168c986e447011128d97ca2c702c1b2a9', 5, NULL, '2026-11-29 16:40:13.895044+00');


--
-- Data for Name: otp_requests; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.otp_requests VALUES
	('01a2282e-e186-71a8-8628-fc6058655ef3', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xb9acad48e4dbb0d10621bfca4d3ed583ccf35e604ba6be5d63cb90b72dfa1f78a9fe2f2bef38311feb', 'k1', '\xb12eac62028777a676a26236534491c44c2b561f365243436cd47aa40c347626', 'GB', '\xb12e1683de09fd60c999bd2bb12c148fe418e8e8ebaaf48554983e83389ce46f', NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '50020E40CA8D4A7CAD17DBCE6214EAB4', 5, 0, 0, 0, NULL, '2026-11-29 16:41:30.706418+00', '2026-11-29 16:41:31.862974+00', '2026-11-29 16:43:00.706418+00', '2026-11-29 16:41:30.850485+00', '2026-11-29 16:46:30.844094+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:42:00.850485+00', false, '44770090', 'refused', NULL),
	('01a2282d-b011-7498-b465-106e2ee4c11e', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x1e17eafdd9d124aa52cbb9eb3148e538681e000e7b2976cf5552dfacf795a03d75f32dad22ab3d4050', 'k1', '\xb12eff70723e84a401f234723b025651eaf7b66d2ffeead1318f881df599b97b', 'GB', '\xb12eb79e3a2e6b90c1110a8498dc60c17fd9383b383862f8cdd741fefd1ef24f', '\xb12e9dad13184e4223ffb11de7c1c88e11e3de2dfacf49dda9de5e71c4b76cc8', 'order-1', 'sms', NULL, 'verified', 'code_correct', NULL, 'idle', NULL, NULL, 1, 1, 0, '8D3EC023B3B84B4287FBD3C96154C62E', 5, 2, 0, 2, NULL, '2026-11-29 16:40:12.398476+00', '2026-11-29 16:40:13.173559+00', '2026-11-29 16:41:42.398476+00', '2026-11-29 16:40:12.85635+00', '2026-11-29 16:45:12.850246+00', '2026-11-29 16:40:13.173559+00', '2026-11-29 16:40:13.173559+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:42.85635+00', false, NULL, 'new', NULL),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x742f81e7406932108c4c61fd364c5e2b1260b63b66cf5e9bfb56fec505b1dd65e3cd6b320eaf6c6c93', 'k1', '\xb12eecb0a440a0e813a425f84ea08d0168c986e447011128d97ca2c702c1b2a9', 'GB', NULL, NULL, NULL, 'sms', NULL, 'locked', 'checks_exhausted', NULL, 'idle', NULL, NULL, 1, 1, 0, 'E21CD087FAFB400BBAFA78BE8C7C57C2', 5, 5, 0, 5, NULL, '2026-11-29 16:40:13.277663+00', '2026-11-29 16:40:13.914438+00', '2026-11-29 16:41:43.277663+00', '2026-11-29 16:40:13.42129+00', '2026-11-29 16:45:13.412202+00', NULL, '2026-11-29 16:40:13.914438+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:43.42129+00', false, NULL, 'known', NULL),
	('01a2282d-b917-7350-9259-400d3f3b5397', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x7747e0d8420108b9c84ba4af8a53624eb38a00265a1fd1d025a9fe24ffb79973ff48598bfbde9a000b', 'k1', '\xb12ef90f8dabed51e225d195187574b7ea923a771427b5f8d3947ba7381df38e', 'GB', NULL, NULL, NULL, 'sms', NULL, 'cancelled', 'cancelled_by_client', NULL, 'idle', NULL, NULL, 1, 1, 0, '619C3C0BB87C43AEA1F9F3621113668E', 5, 0, 0, 0, NULL, '2026-11-29 16:40:14.830747+00', '2026-11-29 16:40:14.958083+00', '2026-11-29 16:41:44.830747+00', '2026-11-29 16:40:14.957431+00', '2026-11-29 16:45:14.948409+00', NULL, '2026-11-29 16:40:14.958083+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:44.957431+00', false, NULL, 'known', NULL),
	('01a2282d-b5e5-7482-ad17-4621edc1f355', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x2bcb4c87496a0a37c4a118926a56d9d28096afdd4d1d59b81b5287823c089cdebfd37fc290a11454b7', 'k1', '\xb12e97db137c2f07c0f5522f3285587e2da47d6775e6c3c61d3c9647ab22dece', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '7FC5AC4C3A004C97A5426B251BD2B741', 5, 0, 0, 0, NULL, '2026-11-29 16:40:13.988425+00', '2026-11-29 16:40:15.164536+00', '2026-11-29 16:41:43.988425+00', '2026-11-29 16:40:14.13526+00', '2026-11-29 16:45:14.131011+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:44.13526+00', false, '44207946', 'new', NULL),
	('01a2282d-b9cd-7710-9262-09008c2986e5', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x580f1affa732ecfe8c83677fed31539273472661160aa8d1109f66d76a0451a6454b437365479fb2d0', 'k1', '\xb12e85cc836bed95314b2c8bea05b269cf6fb4ac9b7b28fd1a144007eafce20e', 'GB', NULL, NULL, NULL, 'sms', NULL, 'cancelled', 'replaced', NULL, 'idle', NULL, NULL, 1, 1, 0, '47745435CF4946FCA89E513F56444488', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.022116+00', '2026-11-29 16:40:15.121505+00', '2026-11-29 16:41:45.022116+00', '2026-11-29 16:40:15.127688+00', '2026-11-29 16:45:15.125122+00', NULL, '2026-11-29 16:40:15.121505+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.127688+00', false, NULL, 'known', NULL),
	('01a2282d-b681-73d0-bc7f-3ed23c455aa9', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x6ae3c2ea759d14a9ff25043dce1120c0998f5dfea06ccd18f61ed0174f92c910926e9caa7dcab33edb', 'k1', '\xb12ed66241c3fc4dc7934b32645f2d0c557db53eed1b7aee3ba5131301d0a21a', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '7EE61BDE852D4EF3BB18383B5B2F4274', 5, 0, 0, 0, NULL, '2026-11-29 16:40:14.109253+00', '2026-11-29 16:40:15.319847+00', '2026-11-29 16:41:44.109253+00', '2026-11-29 16:40:14.298754+00', '2026-11-29 16:45:14.293926+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:44.298754+00', false, '44207946', 'refused', NULL),
	('01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xa191f2e4dd06d0d8d1fbc4e8187b18614a66a1f5dcd5c19c128c7e5f3d24b5cdf290ad30387bf7932a', 'k1', '\xb12e03cf1b357079ee94da3471f3bd6856b5e2ba529be456cad2e442c38cbcd0', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, 'E57D61DA93714AFFBB2F107A5FEF77F8', 5, 0, 0, 0, NULL, '2026-11-29 16:40:14.27435+00', '2026-11-29 16:40:15.400514+00', '2026-11-29 16:41:44.27435+00', '2026-11-29 16:40:14.388063+00', '2026-11-29 16:45:14.37694+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:44.388063+00', false, '44207946', 'refused', NULL),
	('01a2282d-b765-7175-bd63-5a2fcd4ab5e3', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x918a94674a9af3ca997cb446820b6fc574ef4239482452a6f527294ab7f0882bca6529e198ccde98c1', 'k1', '\xb12e662d511890af5b67eebffe63365915d0165aabe22ea24075444d19a847cd', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, 'A27C1CE4FC7A421E87BBAA32A3AD3D31', 5, 0, 0, 0, NULL, '2026-11-29 16:40:14.391031+00', '2026-11-29 16:40:15.608222+00', '2026-11-29 16:41:44.391031+00', '2026-11-29 16:40:14.587308+00', '2026-11-29 16:45:14.584931+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:44.587308+00', false, '44207946', 'refused', NULL),
	('01a2282d-b82e-7442-bc60-0208dd9b6f07', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x4c70843c2799227276ae54f01ab6f9139a276d4107686f230b1d6c574dd26e684eed0976cc379ff898', 'k1', '\xb12ea2b3ed8ffd8ca158b86591d97ba114a704c0dcf968a8c756521c58c21e28', 'GB', NULL, NULL, NULL, 'sms', NULL, 'undelivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, 'DA9BFD02CD564EE6925B09BF24FEB929', 5, 0, 0, 0, NULL, '2026-11-29 16:40:14.562707+00', '2026-11-29 16:40:15.757633+00', '2026-11-29 16:41:44.562707+00', '2026-11-29 16:40:14.710836+00', '2026-11-29 16:45:14.700852+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:44.710836+00', false, '44207946', 'refused', NULL),
	('01a2282d-bcba-7215-8dbf-ec38259e9923', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xae5e02284e73b8479d0b450f5c592a597a389de8f20233adaabb54332dd3c16fe4deabf90cbd818b22', 'k1', '\xb12e65393c1642710d9be47b7032f869eb943b8f0f0ed6fc283eaa8121af3ea6', 'GB', NULL, NULL, NULL, 'sms', NULL, 'cancelled', 'replaced', NULL, 'idle', NULL, NULL, 1, 1, 0, '80EECB6CF1D342D189ECAA82C4892596', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.768658+00', '2026-11-29 16:40:15.881506+00', '2026-11-29 16:41:45.768658+00', '2026-11-29 16:40:15.873583+00', '2026-11-29 16:45:15.862412+00', NULL, '2026-11-29 16:40:15.881506+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.873583+00', false, NULL, 'refused', NULL),
	('01a2282d-ba41-7473-8c45-b740b4b26231', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xa1ece558f751a466c191d9acc64a93162372e353dd51779f58e6d96c3fcbef92b44af38824c8a3614d', 'k1', '\xb12e85cc836bed95314b2c8bea05b269cf6fb4ac9b7b28fd1a144007eafce20e', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '7896390143044824B0A5AC00C2269D7F', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.121505+00', '2026-11-29 16:40:16.281314+00', '2026-11-29 16:41:45.121505+00', '2026-11-29 16:40:15.265218+00', '2026-11-29 16:45:15.253015+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.265218+00', false, '44770090', 'known', NULL),
	('01a2282d-baef-7664-b659-bfefb884fef3', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xd88e26fb7edca32b904c53cbe3feb21100176c568ca5a76dc7fb4ad9777e29922d9820a2a7a5b4843b47', 'k1', '\xb12e6294f81daa3514a30e401928a74dcf8d275898a4856fe7da8ab8554b9c36', 'DE', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, 'E98AFB5E9B4D4C42890C511460A32C99', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.250062+00', '2026-11-29 16:40:16.459023+00', '2026-11-29 16:41:45.250062+00', '2026-11-29 16:40:15.448466+00', '2026-11-29 16:45:15.437747+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.448466+00', false, '491512345', 'new', NULL),
	('01a2282d-bbd1-71a9-aa1d-6af140887bc1', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xd0debafeb01ed20f2a4651d3fb698beea046ee8114c9faf9e6efc12743c98f8a9d5b05ca8a2b254569', 'k1', '\xb12eda97aff1b1203fe04494e5bb1375880a41f7d89f332ca00637163a054ec7', 'GB', NULL, NULL, NULL, 'sms', 'de', 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, 'A5A43C8C951E4501AEEB67F2E8BFE59F', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.51858+00', '2026-11-29 16:40:16.648862+00', '2026-11-29 16:41:45.51858+00', '2026-11-29 16:40:15.624434+00', '2026-11-29 16:45:15.617048+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.624434+00', false, '44770090', 'refused', NULL),
	('01a2282d-bd7a-746c-bbff-e3dad688f5b4', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x4fce8bfb9aa5be04aa8cea64f6a6ad86894f54d6110e138b05b3495cb875e29d04c40331c3d5f778a0', 'k1', '\xb12e65393c1642710d9be47b7032f869eb943b8f0f0ed6fc283eaa8121af3ea6', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '8A7C171BDB4C450EB27E43F1DFE857DE', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.881506+00', '2026-11-29 16:40:17.091848+00', '2026-11-29 16:41:45.881506+00', '2026-11-29 16:40:16.077639+00', '2026-11-29 16:45:16.071459+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:46.077639+00', false, '44770090', 'refused', NULL),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x9f8568ebe06e83c15af5fad882ff3b7e729c66a9bd80099d9872aafa4f7b3969d48b0a8d6564f29643', 'k1', '\xb12e0d86bcb0489bac0e864e34954891e20632ce3e8f486b4f94fea193da31da', 'GB', NULL, NULL, NULL, 'sms', NULL, 'failed', 'attempts_exhausted', 'GENERAL_ERROR', 'idle', NULL, NULL, 6, 6, 0, NULL, 5, 0, 0, 0, NULL, '2026-11-29 16:40:14.692106+00', '2026-11-29 16:40:19.632119+00', '2026-11-29 16:41:44.692106+00', NULL, NULL, NULL, '2026-11-29 16:40:19.632119+00', 'fresh', 1, NULL, NULL, NULL, NULL, false, NULL, 'refused', NULL),
	('01a2282d-bb6e-759d-9e48-56f9f600a68d', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x8ad8266669fb167a2eb359320c17ebe73b41e4e8397571ba8e51463464225d2a5ccffaeb2410914cc0', 'k1', '\xb12e7561e451092e178506e20aebb48e0a7e5571139c9969fca1852a824967ed', 'GB', NULL, NULL, NULL, 'voice', NULL, 'sent', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '0189D4F03DE84E64ACE25A03D3D519B8', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.419209+00', '2026-11-29 16:40:15.505024+00', '2026-11-29 16:41:45.419209+00', '2026-11-29 16:40:15.505024+00', '2026-11-29 16:45:15.500538+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.505024+00', false, '44770090', 'refused', NULL),
	('01a2282d-bc6c-77a2-9aac-87d7f97d4e75', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xe407a71c755771e234ad9131064445f03ef1477227e83c0f203c89f05587930e19776aec0df30e8019', 'k1', '\xb12e65393c1642710d9be47b7032f869eb943b8f0f0ed6fc283eaa8121af3ea6', 'GB', NULL, NULL, NULL, 'sms', NULL, 'cancelled', 'replaced', NULL, 'idle', NULL, NULL, 1, 1, 0, 'A1D6A7019FF74EC3B94F8D3A3974AC28', 5, 0, 0, 0, NULL, '2026-11-29 16:40:15.62622+00', '2026-11-29 16:40:15.768658+00', '2026-11-29 16:41:45.62622+00', '2026-11-29 16:40:15.805394+00', '2026-11-29 16:45:15.797692+00', NULL, '2026-11-29 16:40:15.768658+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:45.805394+00', false, NULL, 'refused', NULL),
	('01a2282f-8393-7257-9c1e-716d56e07c3e', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x999d6b53e440c91dafa2affc1600d51f18d616215c04e10a47f8a585559629a9f9c540c0ddeaf5a0c1', 'k1', '\xb12e33738323a83ec8fe7196848fad0b71955864b0a1e56e68e3b40f62748f4e', 'GB', '\xb12ea9f86eb9bb458937a6f00f80a338f39eb34877a8d79519688f3a3a99a9fb', NULL, NULL, 'sms', NULL, 'verified', 'code_correct', NULL, 'idle', NULL, NULL, 1, 1, 0, 'FE1A62F5D64B4A04AA14F3E47D19F53E', 5, 1, 0, 1, NULL, '2026-11-29 16:42:12.216281+00', '2026-11-29 16:42:28.541755+00', '2026-11-29 16:43:42.216281+00', '2026-11-29 16:42:28.373269+00', '2026-11-29 16:47:28.36778+00', '2026-11-29 16:42:28.541755+00', '2026-11-29 16:42:28.541755+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:42:58.373269+00', false, NULL, 'refused', NULL),
	('01a2282e-e2d5-77d5-8a15-11585705fd48', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x9c936f212e7eedabb330e7ad86bc86d47284cd15dbcb114ef8136ab8005aef9dbf5acbedc32827dda8', 'k1', '\xb12e63dce7a66eb7ec2c1064203f2a3598e66f9d0252c0bcb049476ca6264188', 'GB', '\xb12e95704b23fca41e7e7ad09d1128648e37e67ec7a2dc3eea9b03eea0ab72b8', NULL, NULL, 'sms', NULL, 'cancelled', 'replaced', NULL, 'idle', NULL, NULL, 1, 1, 0, '91040F2BF1C24183B525297B9306F31C', 5, 0, 0, 0, NULL, '2026-11-29 16:41:31.011881+00', '2026-11-29 16:43:38.683079+00', '2026-11-29 16:43:01.011881+00', '2026-11-29 16:42:28.378862+00', '2026-11-29 16:47:28.367296+00', NULL, '2026-11-29 16:43:38.683079+00', 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:42:58.378862+00', false, NULL, 'refused', NULL),
	('01a22830-d58e-748a-a23a-95a5670e280c', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xec90730bbfb2f61a98f645ab0e3007a5acc186edb5f99750525a1600fd2b0c16178124a84f6c79336f', 'k1', '\xb12e63dce7a66eb7ec2c1064203f2a3598e66f9d0252c0bcb049476ca6264188', 'GB', '\xb12e95704b23fca41e7e7ad09d1128648e37e67ec7a2dc3eea9b03eea0ab72b8', NULL, NULL, 'sms', NULL, 'queued', NULL, NULL, 'due', '2026-11-29 16:43:38.683079+00', NULL, 0, 0, 0, NULL, 5, 0, 0, 0, NULL, '2026-11-29 16:43:38.683079+00', '2026-11-29 16:43:38.683079+00', '2026-11-29 16:45:08.683079+00', NULL, NULL, NULL, NULL, 'fresh', 1, NULL, NULL, NULL, NULL, false, '44770090', 'refused', NULL),
	('01a2282d-be9c-76e2-9110-c24e7ac84bfa', '01a2282c-f61c-7279-b652-3017da45ed9c', '\xb12e0b3d433e583d80c7a6eb1fe794ddcadd5ece05bc12e743e3dcdbd8cb6e02e9e2ccdbf13f649f87', 'k1', '\xb12e419a84250c88155a5f419732bcd8bddb352db21f544f1e1d0587287fa516', 'GB', '\xb12eb981021cf888d2c4aca95bcd7f0fa957918b08f4e5541b761340fa962fa7', NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, '058973175FA04FFB833BA8275730993D', 5, 0, 0, 0, NULL, '2026-11-29 16:40:16.211028+00', '2026-11-29 16:40:17.375557+00', '2026-11-29 16:41:46.211028+00', '2026-11-29 16:40:16.357673+00', '2026-11-29 16:45:16.350219+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:40:46.357673+00', false, '44770090', 'refused', NULL),
	('01a2282d-faf5-7697-8e75-41497204dd38', '01a2282c-f61c-7279-b652-3017da45ed9c', '\x5c9075e1af986e24f5d76234891e3003f2393a0ac48fd898755f6280fb21ee19c25521b82bb9dc43b3', 'k1', '\xb12e70d3714e3e37bd46c7e512868cb2c90d98d9b64b9d5aba8bf30225ea0976', 'GB', NULL, NULL, NULL, 'sms', NULL, 'delivered', NULL, NULL, 'idle', NULL, NULL, 1, 1, 0, 'F798CB6770E74837B35993D0D0B7599B', 5, 0, 0, 0, NULL, '2026-11-29 16:40:31.716117+00', '2026-11-29 16:40:32.788119+00', '2026-11-29 16:42:01.716117+00', '2026-11-29 16:40:31.775773+00', '2026-11-29 16:45:31.773597+00', NULL, NULL, 'fresh', 1, NULL, NULL, NULL, '2026-11-29 16:41:01.775773+00', false, '44770090', 'refused', NULL);


--
-- Data for Name: provider_ids; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.provider_ids VALUES
	('http://127.0.0.1:31043', 'otpqueue', 'E18B7707499841C38CC5955394049A03', '2026-11-29 16:39:25.027001+00', '{"en": "D7B3CFBE9808447C8E347C9A10CA4802"}');


--
-- Data for Name: receipts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.receipts VALUES
	('01a2282d-b152-7739-842f-903c0351a500', 'a543522d-cf9f-4650-b241-6e4c7932d819', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:12.854+00', 0.010000, 'EUR', '2026-11-29 16:40:12.881108+00', '01a2282d-b011-7498-b465-106e2ee4c11e', 1),
	('01a2282d-b152-7739-842f-903ba31474d1', 'a543522d-cf9f-4650-b241-6e4c7932d819', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:12.854+00', 0.010000, 'EUR', '2026-11-29 16:40:12.881108+00', '01a2282d-b011-7498-b465-106e2ee4c11e', 1),
	('01a2282d-b38b-77ef-81fb-3b3c1d0cb6f1', '240f6687-33c5-4993-909c-630d1e568dc0', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:13.418+00', 0.010000, 'EUR', '2026-11-29 16:40:13.450664+00', '01a2282d-b309-726b-9f1a-462ff0a02ca0', 1),
	('01a2282d-b38b-77ef-81fb-3b3bc5a34b00', '240f6687-33c5-4993-909c-630d1e568dc0', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:13.418+00', 0.010000, 'EUR', '2026-11-29 16:40:13.450664+00', '01a2282d-b309-726b-9f1a-462ff0a02ca0', 1),
	('01a2282d-b533-773e-82a3-7cf2628da7b1', 'a543522d-cf9f-4650-b241-6e4c7932d819', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:13.854+00', 0.010000, 'EUR', '2026-11-29 16:40:13.874504+00', '01a2282d-b011-7498-b465-106e2ee4c11e', 1),
	('01a2282d-b65c-71b5-a84d-92d818e8e195', '554cc7be-9a29-4a4e-ae44-4255a2978be6', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:14.134+00', 0.010000, 'EUR', '2026-11-29 16:40:14.172096+00', '01a2282d-b5e5-7482-ad17-4621edc1f355', 1),
	('01a2282d-b65c-71b5-a84d-92d782b20f2e', '554cc7be-9a29-4a4e-ae44-4255a2978be6', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:14.134+00', 0.010000, 'EUR', '2026-11-29 16:40:14.172096+00', '01a2282d-b5e5-7482-ad17-4621edc1f355', 1),
	('01a2282d-b6ff-70bd-8290-e1ac3771e506', 'a911914d-b3ac-4510-a3ac-4242d20e7f2f', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:14.297+00', 0.010000, 'EUR', '2026-11-29 16:40:14.334601+00', '01a2282d-b681-73d0-bc7f-3ed23c455aa9', 1),
	('01a2282d-b6ff-70bd-8290-e1abd424835c', 'a911914d-b3ac-4510-a3ac-4242d20e7f2f', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:14.297+00', 0.010000, 'EUR', '2026-11-29 16:40:14.334601+00', '01a2282d-b681-73d0-bc7f-3ed23c455aa9', 1),
	('01a2282d-b74f-757f-9e5b-5b56a2374f4f', '113d76a5-f026-4e8d-ad75-8611ccb9a9aa', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:14.386+00', 0.010000, 'EUR', '2026-11-29 16:40:14.415059+00', '01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', 1),
	('01a2282d-b74f-757f-9e5b-5b55e1178380', '113d76a5-f026-4e8d-ad75-8611ccb9a9aa', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:14.386+00', 0.010000, 'EUR', '2026-11-29 16:40:14.415059+00', '01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', 1),
	('01a2282d-b7b3-7594-810b-b228d71e104d', '240f6687-33c5-4993-909c-630d1e568dc0', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:14.418+00', 0.010000, 'EUR', '2026-11-29 16:40:14.461954+00', '01a2282d-b309-726b-9f1a-462ff0a02ca0', 1),
	('01a2282d-b816-74d9-9b7d-90400940f83c', '637d52fb-5403-4bf0-9e8d-fd1c94639cc8', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:14.586+00', 0.010000, 'EUR', '2026-11-29 16:40:14.613953+00', '01a2282d-b765-7175-bd63-5a2fcd4ab5e3', 1),
	('01a2282d-b816-74d9-9b7d-903fc3ced9b8', '637d52fb-5403-4bf0-9e8d-fd1c94639cc8', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:14.586+00', 0.010000, 'EUR', '2026-11-29 16:40:14.613953+00', '01a2282d-b765-7175-bd63-5a2fcd4ab5e3', 1),
	('01a2282d-b896-7391-9954-de7c5cedb63c', 'd80c6fef-adf7-4d81-9c39-ac0e0b0ec30a', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:14.709+00', 0.010000, 'EUR', '2026-11-29 16:40:14.742434+00', '01a2282d-b82e-7442-bc60-0208dd9b6f07', 1),
	('01a2282d-b896-7391-9954-de7b9f5d126f', 'd80c6fef-adf7-4d81-9c39-ac0e0b0ec30a', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:14.709+00', 0.010000, 'EUR', '2026-11-29 16:40:14.742434+00', '01a2282d-b82e-7442-bc60-0208dd9b6f07', 1),
	('01a2282d-b993-74e5-a411-99afe9232cd8', '836eb872-8b34-436c-a5f2-d9811780dd35', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:14.956+00', 0.010000, 'EUR', '2026-11-29 16:40:14.995199+00', '01a2282d-b917-7350-9259-400d3f3b5397', 1),
	('01a2282d-b993-74e5-a411-99ae15f4c891', '836eb872-8b34-436c-a5f2-d9811780dd35', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:14.956+00', 0.010000, 'EUR', '2026-11-29 16:40:14.995199+00', '01a2282d-b917-7350-9259-400d3f3b5397', 1),
	('01a2282d-ba3d-7634-a1cf-69dbe396605b', '554cc7be-9a29-4a4e-ae44-4255a2978be6', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.134+00', 0.010000, 'EUR', '2026-11-29 16:40:15.164536+00', '01a2282d-b5e5-7482-ad17-4621edc1f355', 1),
	('01a2282d-ba3d-7634-a1cf-69dabe047c17', '4e7e992b-03c3-40bf-a1f4-2920a95af3d1', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:15.126+00', 0.010000, 'EUR', '2026-11-29 16:40:15.164536+00', '01a2282d-b9cd-7710-9262-09008c2986e5', 1),
	('01a2282d-ba3d-7634-a1cf-69d920a9fb36', '4e7e992b-03c3-40bf-a1f4-2920a95af3d1', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:15.126+00', 0.010000, 'EUR', '2026-11-29 16:40:15.164536+00', '01a2282d-b9cd-7710-9262-09008c2986e5', 1),
	('01a2282d-bab8-77ac-aeaf-c1dbdfca5827', '63978e71-7b52-4f4d-80a5-9f7e74cc0c41', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:15.258+00', 0.010000, 'EUR', '2026-11-29 16:40:15.287503+00', '01a2282d-ba41-7473-8c45-b740b4b26231', 1),
	('01a2282d-bab8-77ac-aeaf-c1dac12b0456', '63978e71-7b52-4f4d-80a5-9f7e74cc0c41', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:15.258+00', 0.010000, 'EUR', '2026-11-29 16:40:15.287503+00', '01a2282d-ba41-7473-8c45-b740b4b26231', 1),
	('01a2282d-bad8-7200-9433-a67b01c560f6', 'a911914d-b3ac-4510-a3ac-4242d20e7f2f', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.297+00', 0.010000, 'EUR', '2026-11-29 16:40:15.319847+00', '01a2282d-b681-73d0-bc7f-3ed23c455aa9', 1),
	('01a2282d-bb29-711c-aa9d-10daab6e4ab9', '113d76a5-f026-4e8d-ad75-8611ccb9a9aa', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.386+00', 0.010000, 'EUR', '2026-11-29 16:40:15.400514+00', '01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', 1),
	('01a2282d-bb66-72be-bdcb-97a5310cf95e', 'd8491e10-705b-442a-8394-3c1423211ef3', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:15.445+00', 0.010000, 'EUR', '2026-11-29 16:40:15.462143+00', '01a2282d-baef-7664-b659-bfefb884fef3', 1),
	('01a2282d-bb66-72be-bdcb-97a4e0ca2969', 'd8491e10-705b-442a-8394-3c1423211ef3', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:15.445+00', 0.010000, 'EUR', '2026-11-29 16:40:15.462143+00', '01a2282d-baef-7664-b659-bfefb884fef3', 1),
	('01a2282d-bbfd-73eb-bfb6-8354188201c4', '637d52fb-5403-4bf0-9e8d-fd1c94639cc8', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.586+00', 0.010000, 'EUR', '2026-11-29 16:40:15.608222+00', '01a2282d-b765-7175-bd63-5a2fcd4ab5e3', 1),
	('01a2282d-bc2a-721a-a84c-d97be800b071', '8edbc821-7db0-48c3-9ca4-d570ecac9d47', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:15.622+00', 0.010000, 'EUR', '2026-11-29 16:40:15.657789+00', '01a2282d-bbd1-71a9-aa1d-6af140887bc1', 1),
	('01a2282d-bc2a-721a-a84c-d97adf678df8', '8edbc821-7db0-48c3-9ca4-d570ecac9d47', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:15.622+00', 0.010000, 'EUR', '2026-11-29 16:40:15.657789+00', '01a2282d-bbd1-71a9-aa1d-6af140887bc1', 1),
	('01a2282d-bc90-722e-be56-74852c60860c', 'd80c6fef-adf7-4d81-9c39-ac0e0b0ec30a', 'undelivered', 'UNDELIVERABLE_NOT_DELIVERED', 'EC_ABSENT_SUBSCRIBER', '2026-11-29 16:40:15.709+00', 0.010000, 'EUR', '2026-11-29 16:40:15.757633+00', '01a2282d-b82e-7442-bc60-0208dd9b6f07', 1),
	('01a2282d-bcdf-76fc-a82a-1b6d6ffdadf3', '87909f8f-8eaa-4b1e-85e3-78116ed9d976', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:15.798+00', 0.010000, 'EUR', '2026-11-29 16:40:15.839158+00', '01a2282d-bc6c-77a2-9aac-87d7f97d4e75', 1),
	('01a2282d-bcdf-76fc-a82a-1b6c28c42310', '87909f8f-8eaa-4b1e-85e3-78116ed9d976', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:15.798+00', 0.010000, 'EUR', '2026-11-29 16:40:15.839158+00', '01a2282d-bc6c-77a2-9aac-87d7f97d4e75', 1),
	('01a2282d-bd32-7385-82ab-a1fce6c58d1c', 'b71323e5-4b66-4060-98a4-72b0bd12ca57', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:15.87+00', 0.010000, 'EUR', '2026-11-29 16:40:15.921641+00', '01a2282d-bcba-7215-8dbf-ec38259e9923', 1),
	('01a2282d-bd32-7385-82ab-a1fb29245193', 'b71323e5-4b66-4060-98a4-72b0bd12ca57', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:15.87+00', 0.010000, 'EUR', '2026-11-29 16:40:15.921641+00', '01a2282d-bcba-7215-8dbf-ec38259e9923', 1),
	('01a2282d-bd77-7059-9c91-8d2e120dab26', '836eb872-8b34-436c-a5f2-d9811780dd35', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.956+00', 0.010000, 'EUR', '2026-11-29 16:40:15.990362+00', '01a2282d-b917-7350-9259-400d3f3b5397', 1),
	('01a2282d-bdef-76ef-ba72-c8990ca37946', '174de078-aacf-4377-8b53-bfb8336e0ebc', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:16.073+00', 0.010000, 'EUR', '2026-11-29 16:40:16.111166+00', '01a2282d-bd7a-746c-bbff-e3dad688f5b4', 1),
	('01a2282d-bdef-76ef-ba72-c898b6168107', '174de078-aacf-4377-8b53-bfb8336e0ebc', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:16.073+00', 0.010000, 'EUR', '2026-11-29 16:40:16.111166+00', '01a2282d-bd7a-746c-bbff-e3dad688f5b4', 1),
	('01a2282d-be1c-756d-9af0-671faaa9dbad', '4e7e992b-03c3-40bf-a1f4-2920a95af3d1', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.126+00', 0.010000, 'EUR', '2026-11-29 16:40:16.155743+00', '01a2282d-b9cd-7710-9262-09008c2986e5', 1),
	('01a2282d-be9a-7592-a61a-482a71ac550a', '63978e71-7b52-4f4d-80a5-9f7e74cc0c41', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.258+00', 0.010000, 'EUR', '2026-11-29 16:40:16.281314+00', '01a2282d-ba41-7473-8c45-b740b4b26231', 1),
	('01a2282d-befa-7011-9e17-c928032591f9', '81d2f24b-4876-408b-8edd-01f7f62977aa', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:16.353+00', 0.010000, 'EUR', '2026-11-29 16:40:16.377592+00', '01a2282d-be9c-76e2-9110-c24e7ac84bfa', 1),
	('01a2282d-befa-7011-9e17-c927a05dbdf9', '81d2f24b-4876-408b-8edd-01f7f62977aa', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:16.353+00', 0.010000, 'EUR', '2026-11-29 16:40:16.377592+00', '01a2282d-be9c-76e2-9110-c24e7ac84bfa', 1),
	('01a2282d-bf4b-7458-8dfa-50277b443a34', 'd8491e10-705b-442a-8394-3c1423211ef3', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.445+00', 0.010000, 'EUR', '2026-11-29 16:40:16.459023+00', '01a2282d-baef-7664-b659-bfefb884fef3', 1),
	('01a2282d-c009-74e0-a983-10d40dcdbfc8', '8edbc821-7db0-48c3-9ca4-d570ecac9d47', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.622+00', 0.010000, 'EUR', '2026-11-29 16:40:16.648862+00', '01a2282d-bbd1-71a9-aa1d-6af140887bc1', 1),
	('01a2282d-c0af-77dc-818d-37cab4c1b927', '87909f8f-8eaa-4b1e-85e3-78116ed9d976', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.798+00', 0.010000, 'EUR', '2026-11-29 16:40:16.814483+00', '01a2282d-bc6c-77a2-9aac-87d7f97d4e75', 1),
	('01a2282e-e1f5-76c9-b6c5-cc4598cfdfa3', 'bac1d2d8-4eda-47e4-b107-c1665a2dc05c', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:41:30.849+00', 0.010000, 'EUR', '2026-11-29 16:41:30.869344+00', '01a2282e-e186-71a8-8628-fc6058655ef3', 1),
	('01a2282d-c0f7-727a-a1c9-e396b214fe00', 'b71323e5-4b66-4060-98a4-72b0bd12ca57', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.87+00', 0.010000, 'EUR', '2026-11-29 16:40:16.886269+00', '01a2282d-bcba-7215-8dbf-ec38259e9923', 1),
	('01a2282e-e1f5-76c9-b6c5-cc440ebf5693', 'bac1d2d8-4eda-47e4-b107-c1665a2dc05c', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:41:30.849+00', 0.010000, 'EUR', '2026-11-29 16:41:30.869344+00', '01a2282e-e186-71a8-8628-fc6058655ef3', 1),
	('01a2282d-c1c4-769a-afa4-cd53c63bcb98', '174de078-aacf-4377-8b53-bfb8336e0ebc', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:17.073+00', 0.010000, 'EUR', '2026-11-29 16:40:17.091848+00', '01a2282d-bd7a-746c-bbff-e3dad688f5b4', 1),
	('01a2282d-c2e0-7791-86a7-ced5e33f39d3', '81d2f24b-4876-408b-8edd-01f7f62977aa', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:17.353+00', 0.010000, 'EUR', '2026-11-29 16:40:17.375557+00', '01a2282d-be9c-76e2-9110-c24e7ac84bfa', 1),
	('01a2282e-e5d7-75a2-81a9-81cd8c10b344', 'bac1d2d8-4eda-47e4-b107-c1665a2dc05c', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:41:31.849+00', 0.010000, 'EUR', '2026-11-29 16:41:31.862974+00', '01a2282e-e186-71a8-8628-fc6058655ef3', 1),
	('01a2282d-fb30-7746-8e5e-4e4adf06c6a7', 'a8ce83de-12bc-4fcd-9886-d31b1989097e', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:40:31.774+00', 0.010000, 'EUR', '2026-11-29 16:40:31.792097+00', '01a2282d-faf5-7697-8e75-41497204dd38', 1),
	('01a2282d-fb30-7746-8e5e-4e4907ecf615', 'a8ce83de-12bc-4fcd-9886-d31b1989097e', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:40:31.774+00', 0.010000, 'EUR', '2026-11-29 16:40:31.792097+00', '01a2282d-faf5-7697-8e75-41497204dd38', 1),
	('01a2282d-ff14-7699-80f0-92edd608a900', 'a8ce83de-12bc-4fcd-9886-d31b1989097e', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:32.774+00', 0.010000, 'EUR', '2026-11-29 16:40:32.788119+00', '01a2282d-faf5-7697-8e75-41497204dd38', 1),
	('01a2282f-c2ab-738e-a68a-38d700a1f6a8', 'f929e355-3e52-4c79-957e-a3ed1caa021c', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:42:28.377+00', 0.010000, 'EUR', '2026-11-29 16:42:28.394844+00', '01a2282e-e2d5-77d5-8a15-11585705fd48', 1),
	('01a2282f-c2ab-738e-a68a-38d6909e6783', 'f929e355-3e52-4c79-957e-a3ed1caa021c', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:42:28.377+00', 0.010000, 'EUR', '2026-11-29 16:42:28.394844+00', '01a2282e-e2d5-77d5-8a15-11585705fd48', 1),
	('01a2282f-c2ab-738e-a68a-38d51e13d02a', 'a7ca1e2a-a5b0-4e9b-88ce-d5cfeebabf5a', 'pending', 'DELIVERED_TO_OPERATOR', NULL, '2026-11-29 16:42:28.371+00', 0.010000, 'EUR', '2026-11-29 16:42:28.394844+00', '01a2282f-8393-7257-9c1e-716d56e07c3e', 1),
	('01a2282f-c2ab-738e-a68a-38d4608c9788', 'a7ca1e2a-a5b0-4e9b-88ce-d5cfeebabf5a', 'pending', 'PENDING_ENROUTE', NULL, '2026-11-29 16:42:28.371+00', 0.010000, 'EUR', '2026-11-29 16:42:28.394844+00', '01a2282f-8393-7257-9c1e-716d56e07c3e', 1),
	('01a2282f-c697-7535-88d3-09325c87f8ae', 'f929e355-3e52-4c79-957e-a3ed1caa021c', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:42:29.377+00', 0.010000, 'EUR', '2026-11-29 16:42:29.398415+00', '01a2282e-e2d5-77d5-8a15-11585705fd48', 1),
	('01a2282f-c697-7535-88d3-09310bb205d9', 'a7ca1e2a-a5b0-4e9b-88ce-d5cfeebabf5a', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:42:29.371+00', 0.010000, 'EUR', '2026-11-29 16:42:29.398415+00', '01a2282f-8393-7257-9c1e-716d56e07c3e', 1);


--
-- Data for Name: refusals; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.refusals VALUES
	('01a2282d-bdd1-77f1-84bf-f579ec7d3e5d', '01a2282c-f61c-7279-b652-3017da45ed9c', 'limit_number_15m', '\xb12e65393c1642710d9be47b7032f869eb943b8f0f0ed6fc283eaa8121af3ea6', NULL, '2026-11-29 16:40:16.049654+00', '2026-11-29 16:40:00+00', 2, 'GB', false);


--
-- Data for Name: send_attempts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.send_attempts VALUES
	('01a2282d-b681-73d0-bc7f-3ed23c455aa9', 1, 'vm:10977', '2026-11-29 16:40:14.267682+00', '2026-11-29 16:40:14.293926+00', '2026-11-29 16:40:14.298754+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '7EE61BDE852D4EF3BB18383B5B2F4274', 5, 'fresh', 'sms', NULL, 'a911914d-b3ac-4510-a3ac-4242d20e7f2f', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.297+00', 0.010000, 'EUR', '2026-11-29 16:40:15.319847+00'),
	('01a2282d-b6ed-77ce-ac4e-9ff7b8ba2878', 1, 'vm:10977', '2026-11-29 16:40:14.33942+00', '2026-11-29 16:40:14.37694+00', '2026-11-29 16:40:14.388063+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'E57D61DA93714AFFBB2F107A5FEF77F8', 11, 'fresh', 'sms', NULL, '113d76a5-f026-4e8d-ad75-8611ccb9a9aa', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.386+00', 0.010000, 'EUR', '2026-11-29 16:40:15.400514+00'),
	('01a2282d-b011-7498-b465-106e2ee4c11e', 1, 'vm:10977', '2026-11-29 16:40:12.781104+00', '2026-11-29 16:40:12.850246+00', '2026-11-29 16:40:12.85635+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '8D3EC023B3B84B4287FBD3C96154C62E', 6, 'fresh', 'sms', NULL, 'a543522d-cf9f-4650-b241-6e4c7932d819', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:13.854+00', 0.010000, 'EUR', '2026-11-29 16:40:13.874504+00'),
	('01a2282d-bd7a-746c-bbff-e3dad688f5b4', 1, 'vm:10977', '2026-11-29 16:40:16.061564+00', '2026-11-29 16:40:16.071459+00', '2026-11-29 16:40:16.077639+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '8A7C171BDB4C450EB27E43F1DFE857DE', 6, 'fresh', 'sms', NULL, '174de078-aacf-4377-8b53-bfb8336e0ebc', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:17.073+00', 0.010000, 'EUR', '2026-11-29 16:40:17.091848+00'),
	('01a2282d-b309-726b-9f1a-462ff0a02ca0', 1, 'vm:10977', '2026-11-29 16:40:13.382437+00', '2026-11-29 16:40:13.412202+00', '2026-11-29 16:40:13.42129+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'E21CD087FAFB400BBAFA78BE8C7C57C2', 9, 'fresh', 'sms', NULL, '240f6687-33c5-4993-909c-630d1e568dc0', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:14.418+00', 0.010000, 'EUR', '2026-11-29 16:40:14.461954+00'),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 4, 'vm:10977', '2026-11-29 16:40:16.118258+00', '2026-11-29 16:40:16.143704+00', '2026-11-29 16:40:16.152538+00', 'refused', true, 'GENERAL_ERROR', 500, NULL, 9, 'fresh', 'sms', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-b9cd-7710-9262-09008c2986e5', 1, 'vm:10977', '2026-11-29 16:40:15.10072+00', '2026-11-29 16:40:15.125122+00', '2026-11-29 16:40:15.127688+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '47745435CF4946FCA89E513F56444488', 3, 'fresh', 'sms', NULL, '4e7e992b-03c3-40bf-a1f4-2920a95af3d1', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.126+00', 0.010000, 'EUR', '2026-11-29 16:40:16.155743+00'),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 1, 'vm:10977', '2026-11-29 16:40:14.821071+00', '2026-11-29 16:40:14.837026+00', '2026-11-29 16:40:14.844447+00', 'refused', true, 'GENERAL_ERROR', 500, NULL, 7, 'fresh', 'sms', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-ba41-7473-8c45-b740b4b26231', 1, 'vm:10977', '2026-11-29 16:40:15.240034+00', '2026-11-29 16:40:15.253015+00', '2026-11-29 16:40:15.265218+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '7896390143044824B0A5AC00C2269D7F', 12, 'fresh', 'sms', NULL, '63978e71-7b52-4f4d-80a5-9f7e74cc0c41', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.258+00', 0.010000, 'EUR', '2026-11-29 16:40:16.281314+00'),
	('01a2282d-b5e5-7482-ad17-4621edc1f355', 1, 'vm:10977', '2026-11-29 16:40:14.100683+00', '2026-11-29 16:40:14.131011+00', '2026-11-29 16:40:14.13526+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '7FC5AC4C3A004C97A5426B251BD2B741', 4, 'fresh', 'sms', NULL, '554cc7be-9a29-4a4e-ae44-4255a2978be6', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.134+00', 0.010000, 'EUR', '2026-11-29 16:40:15.164536+00'),
	('01a2282d-be9c-76e2-9110-c24e7ac84bfa', 1, 'vm:10977', '2026-11-29 16:40:16.341516+00', '2026-11-29 16:40:16.350219+00', '2026-11-29 16:40:16.357673+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '058973175FA04FFB833BA8275730993D', 7, 'fresh', 'sms', NULL, '81d2f24b-4876-408b-8edd-01f7f62977aa', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:17.353+00', 0.010000, 'EUR', '2026-11-29 16:40:17.375557+00'),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 2, 'vm:10977', '2026-11-29 16:40:15.16782+00', '2026-11-29 16:40:15.20434+00', '2026-11-29 16:40:15.208867+00', 'refused', true, 'GENERAL_ERROR', 500, NULL, 5, 'fresh', 'sms', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-bb6e-759d-9e48-56f9f600a68d', 1, 'vm:10977', '2026-11-29 16:40:15.480912+00', '2026-11-29 16:40:15.500538+00', '2026-11-29 16:40:15.505024+00', 'accepted', NULL, 'PENDING_ACCEPTED', 200, '0189D4F03DE84E64ACE25A03D3D519B8', 4, 'fresh', 'voice', NULL, 'e27fca45-d7f1-433f-8a94-a195d3b45d00', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-b765-7175-bd63-5a2fcd4ab5e3', 1, 'vm:10977', '2026-11-29 16:40:14.56205+00', '2026-11-29 16:40:14.584931+00', '2026-11-29 16:40:14.587308+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'A27C1CE4FC7A421E87BBAA32A3AD3D31', 2, 'fresh', 'sms', NULL, '637d52fb-5403-4bf0-9e8d-fd1c94639cc8', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.586+00', 0.010000, 'EUR', '2026-11-29 16:40:15.608222+00'),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 5, 'vm:10977', '2026-11-29 16:40:18.765155+00', '2026-11-29 16:40:18.773946+00', '2026-11-29 16:40:18.785492+00', 'refused', true, 'GENERAL_ERROR', 500, NULL, 12, 'fresh', 'sms', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 3, 'vm:10977', '2026-11-29 16:40:15.670087+00', '2026-11-29 16:40:15.684996+00', '2026-11-29 16:40:15.692093+00', 'refused', true, 'GENERAL_ERROR', 500, NULL, 7, 'fresh', 'sms', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-b82e-7442-bc60-0208dd9b6f07', 1, 'vm:10977', '2026-11-29 16:40:14.679278+00', '2026-11-29 16:40:14.700852+00', '2026-11-29 16:40:14.710836+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'DA9BFD02CD564EE6925B09BF24FEB929', 10, 'fresh', 'sms', NULL, 'd80c6fef-adf7-4d81-9c39-ac0e0b0ec30a', 'undelivered', 'UNDELIVERABLE_NOT_DELIVERED', 'EC_ABSENT_SUBSCRIBER', '2026-11-29 16:40:15.709+00', 0.010000, 'EUR', '2026-11-29 16:40:15.757633+00'),
	('01a2282d-b8a1-7043-a3c0-d20a2b39d384', 6, 'vm:10977', '2026-11-29 16:40:19.613137+00', '2026-11-29 16:40:19.630186+00', '2026-11-29 16:40:19.632119+00', 'refused', true, 'GENERAL_ERROR', 500, NULL, 2, 'fresh', 'sms', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('01a2282d-b917-7350-9259-400d3f3b5397', 1, 'vm:10977', '2026-11-29 16:40:14.93215+00', '2026-11-29 16:40:14.948409+00', '2026-11-29 16:40:14.957431+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '619C3C0BB87C43AEA1F9F3621113668E', 9, 'fresh', 'sms', NULL, '836eb872-8b34-436c-a5f2-d9811780dd35', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:15.956+00', 0.010000, 'EUR', '2026-11-29 16:40:15.990362+00'),
	('01a2282e-e186-71a8-8628-fc6058655ef3', 1, 'vm:10977', '2026-11-29 16:41:30.823299+00', '2026-11-29 16:41:30.844094+00', '2026-11-29 16:41:30.850485+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '50020E40CA8D4A7CAD17DBCE6214EAB4', 6, 'fresh', 'sms', NULL, 'bac1d2d8-4eda-47e4-b107-c1665a2dc05c', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:41:31.849+00', 0.010000, 'EUR', '2026-11-29 16:41:31.862974+00'),
	('01a2282d-baef-7664-b659-bfefb884fef3', 1, 'vm:10977', '2026-11-29 16:40:15.397814+00', '2026-11-29 16:40:15.437747+00', '2026-11-29 16:40:15.448466+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'E98AFB5E9B4D4C42890C511460A32C99', 11, 'fresh', 'sms', NULL, 'd8491e10-705b-442a-8394-3c1423211ef3', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.445+00', 0.010000, 'EUR', '2026-11-29 16:40:16.459023+00'),
	('01a2282d-bbd1-71a9-aa1d-6af140887bc1', 1, 'vm:10977', '2026-11-29 16:40:15.604934+00', '2026-11-29 16:40:15.617048+00', '2026-11-29 16:40:15.624434+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'A5A43C8C951E4501AEEB67F2E8BFE59F', 7, 'fresh', 'sms', NULL, '8edbc821-7db0-48c3-9ca4-d570ecac9d47', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.622+00', 0.010000, 'EUR', '2026-11-29 16:40:16.648862+00'),
	('01a2282d-bc6c-77a2-9aac-87d7f97d4e75', 1, 'vm:10977', '2026-11-29 16:40:15.780031+00', '2026-11-29 16:40:15.797692+00', '2026-11-29 16:40:15.805394+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'A1D6A7019FF74EC3B94F8D3A3974AC28', 8, 'fresh', 'sms', NULL, '87909f8f-8eaa-4b1e-85e3-78116ed9d976', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.798+00', 0.010000, 'EUR', '2026-11-29 16:40:16.814483+00'),
	('01a2282d-bcba-7215-8dbf-ec38259e9923', 1, 'vm:10977', '2026-11-29 16:40:15.841865+00', '2026-11-29 16:40:15.862412+00', '2026-11-29 16:40:15.873583+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '80EECB6CF1D342D189ECAA82C4892596', 11, 'fresh', 'sms', NULL, 'b71323e5-4b66-4060-98a4-72b0bd12ca57', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:16.87+00', 0.010000, 'EUR', '2026-11-29 16:40:16.886269+00'),
	('01a2282d-faf5-7697-8e75-41497204dd38', 1, 'vm:10977', '2026-11-29 16:40:31.769163+00', '2026-11-29 16:40:31.773597+00', '2026-11-29 16:40:31.775773+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'F798CB6770E74837B35993D0D0B7599B', 2, 'fresh', 'sms', NULL, 'a8ce83de-12bc-4fcd-9886-d31b1989097e', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:40:32.774+00', 0.010000, 'EUR', '2026-11-29 16:40:32.788119+00'),
	('01a2282e-e2d5-77d5-8a15-11585705fd48', 1, 'vm:10977', '2026-11-29 16:42:28.35211+00', '2026-11-29 16:42:28.367296+00', '2026-11-29 16:42:28.378862+00', 'accepted', NULL, 'MESSAGE_SENT', 200, '91040F2BF1C24183B525297B9306F31C', 12, 'fresh', 'sms', NULL, 'f929e355-3e52-4c79-957e-a3ed1caa021c', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:42:29.377+00', 0.010000, 'EUR', '2026-11-29 16:42:29.398415+00'),
	('01a2282f-8393-7257-9c1e-716d56e07c3e', 1, 'vm:10977', '2026-11-29 16:42:28.35211+00', '2026-11-29 16:42:28.36778+00', '2026-11-29 16:42:28.373269+00', 'accepted', NULL, 'MESSAGE_SENT', 200, 'FE1A62F5D64B4A04AA14F3E47D19F53E', 5, 'fresh', 'sms', NULL, 'a7ca1e2a-a5b0-4e9b-88ce-d5cfeebabf5a', 'delivered', 'DELIVERED_TO_HANDSET', NULL, '2026-11-29 16:42:29.371+00', 0.010000, 'EUR', '2026-11-29 16:42:29.398415+00');


--
-- Data for Name: send_counts; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.send_counts VALUES
	('2026-11-29', 'client', '01a2282c-f61c-7279-b652-3017da45ed9c', 21),
	('2026-11-29', 'all', '', 21),
	('2026-11-29', 'country', 'GB', 20),
	('2026-11-29', 'country', 'DE', 1);


--
-- Data for Name: sending_stops; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sending_stops VALUES
	('01a2282e-133d-713f-a724-07181f5bb3ca', 'country', 'FR', 'test', 'root@vm', '2026-11-29 16:40:37.859351+00', NULL, NULL);


--
-- Data for Name: stat_events; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: stats_hours; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.stats_hours VALUES
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'attempts', 'accepted', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'checks', 'wrong', 6, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'none', 'refused', 'limit_number_15m', 2, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cancelled', 'cancelled_by_client', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'provider_sends', '200', 1, 4),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'requested', '', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'provider_sends', '200', 1, 11),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'undelivered', '', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_verified', '500', 1, 317),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'cost', 'EUR', 1, 0.010000),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '500', 1, 458),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'accept_to_sent', '200', 1, 198),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'sent', '', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'attempts', 'accepted', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'sent_to_delivered', '1000', 1, 997),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'delivered', '', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'locked', 'checks_exhausted', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'sent', '', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'requested', '', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'accept_to_sent', '100', 1, 86),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'failed', 'attempts_exhausted', 1, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'attempts', 'refused', 6, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_sends', '500', 6, 42),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent', '', 19, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'checks', 'correct', 2, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'verified', '', 2, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'attempts', 'accepted', 19, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_sends', '200', 19, 135),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cost', 'EUR', 19, 0.190000),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'requested', '', 21, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '200', 15, 2193),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_delivered', '1000', 18, 17949),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_checks', '200', 8, 49),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'delivered', '', 18, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cancelled', 'replaced', 4, 0),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '100', 1, 60),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '20000', 1, 16157),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '60000', 1, 57367),
	('2026-11-29 16:00:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_verified', '200', 1, 168);


--
-- Data for Name: stats_minutes; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.stats_minutes VALUES
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'requested', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'checks', 'correct', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_verified', '500', 1, 317),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'accept_to_sent', '100', 1, 86),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'attempts', 'accepted', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'undelivered', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'provider_sends', '200', 1, 11),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'verified', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'sent', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'sent', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '500', 1, 458),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'attempts', 'accepted', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'locked', 'checks_exhausted', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'checks', 'wrong', 6, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'provider_sends', '200', 1, 4),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'cost', 'EUR', 1, 0.010000),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'sent_to_delivered', '1000', 1, 997),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'voice', 'requested', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'delivered', '', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'DE', 'sms', 'accept_to_sent', '200', 1, 198),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '200', 14, 2049),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cancelled', 'cancelled_by_client', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cancelled', 'replaced', 3, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_checks', '200', 7, 46),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'none', 'refused', 'limit_number_15m', 2, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'attempts', 'refused', 6, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_sends', '500', 6, 42),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'failed', 'attempts_exhausted', 1, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cost', 'EUR', 16, 0.160000),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_delivered', '1000', 15, 14954),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '100', 1, 60),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'attempts', 'accepted', 16, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'requested', '', 17, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_sends', '200', 16, 112),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent', '', 16, 0),
	('2026-11-29 16:40:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'delivered', '', 15, 0),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'attempts', 'accepted', 1, 0),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent', '', 1, 0),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'delivered', '', 1, 0),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '200', 1, 144),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cost', 'EUR', 1, 0.010000),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_sends', '200', 1, 6),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_delivered', '1000', 1, 999),
	('2026-11-29 16:41:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'requested', '', 2, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'requested', '', 1, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'attempts', 'accepted', 2, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_verified', '200', 1, 168),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_sends', '200', 2, 17),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '20000', 1, 16157),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'checks', 'correct', 1, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'accept_to_sent', '60000', 1, 57367),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'provider_checks', '200', 1, 3),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'verified', '', 1, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent', '', 2, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cost', 'EUR', 2, 0.020000),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'delivered', '', 2, 0),
	('2026-11-29 16:42:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'sent_to_delivered', '1000', 2, 1996),
	('2026-11-29 16:43:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'cancelled', 'replaced', 1, 0),
	('2026-11-29 16:43:00+00', '01a2282c-f61c-7279-b652-3017da45ed9c', 'GB', 'sms', 'requested', '', 1, 0);


--
-- Data for Name: webhook_deliveries; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.webhook_deliveries OVERRIDING SYSTEM VALUE VALUES
	('36ce1743-05ba-4c17-a9b4-e235f5855ead', 1, '01a2282e-e2d5-77d5-8a15-11585705fd48', '01a2282c-f61c-7279-b652-3017da45ed9c', 'otp_request.sent', '2026-11-29 16:42:28.378862+00', NULL, NULL, '2026-11-29 16:47:28.367296+00', 'pending', 3, '2026-11-29 16:45:34.700769+00', NULL, '2026-11-29 16:43:18.8244+00', NULL, 'https_required'),
	('440dfbaa-2551-40d5-ac12-631dc04e8575', 4, '01a2282e-e2d5-77d5-8a15-11585705fd48', '01a2282c-f61c-7279-b652-3017da45ed9c', 'otp_request.delivered', '2026-11-29 16:42:29.398415+00', NULL, NULL, '2026-11-29 16:47:28.367296+00', 'pending', 0, '2026-11-29 16:45:34.700769+00', NULL, NULL, NULL, NULL),
	('670e0fe6-193b-429f-a57d-ca124fae2db8', 2, '01a2282f-8393-7257-9c1e-716d56e07c3e', '01a2282c-f61c-7279-b652-3017da45ed9c', 'otp_request.sent', '2026-11-29 16:42:28.373269+00', NULL, NULL, '2026-11-29 16:47:28.36778+00', 'pending', 3, '2026-11-29 16:45:28.994364+00', NULL, '2026-11-29 16:43:18.871252+00', NULL, 'https_required'),
	('fe3dbe3d-9767-4546-8353-0a51049e4a10', 3, '01a2282f-8393-7257-9c1e-716d56e07c3e', '01a2282c-f61c-7279-b652-3017da45ed9c', 'otp_request.verified', '2026-11-29 16:42:28.541755+00', 'code_correct', NULL, '2026-11-29 16:47:28.36778+00', 'pending', 0, '2026-11-29 16:45:28.994364+00', NULL, NULL, NULL, NULL),
	('7d66596d-127c-4e33-ab2e-88d3cf6eee3e', 5, '01a2282e-e2d5-77d5-8a15-11585705fd48', '01a2282c-f61c-7279-b652-3017da45ed9c', 'otp_request.cancelled', '2026-11-29 16:43:38.683079+00', 'replaced', NULL, '2026-11-29 16:47:28.367296+00', 'pending', 0, '2026-11-29 16:45:34.700769+00', NULL, NULL, NULL, NULL);


--
-- Data for Name: webhook_endpoints; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.webhook_endpoints VALUES
	('01a2282f-337d-7493-8066-74f1561d131d', '01a2282c-f61c-7279-b652-3017da45ed9c', 'http://127.0.0.1:9/hook', '{otp_request.sent,otp_request.delivered,otp_request.undelivered,otp_request.verified,otp_request.failed,otp_request.expired,otp_request.locked,otp_request.cancelled}', '\xbf81e154691cbd15c9caf3d31d66da80b86c149fd9383df2d5a702e5e4ffbcfe81f96ae5377089152e248ed87021fa3a7d45b7c8805756bce6c8676643f39b1c9f74fae0219d18b8b846d59d2f0a', 'k1', NULL, '2026-11-29 16:41:51.451445+00', '2026-11-29 16:42:28.548614+00', NULL, NULL);


--
-- Name: alert_history_number_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.alert_history_number_seq', 2, true);


--
-- Name: moves_number_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.moves_number_seq', 43, true);


--
-- Name: stat_events_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.stat_events_id_seq', 127, true);


--
-- Name: webhook_deliveries_number_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.webhook_deliveries_number_seq', 5, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: alert_evaluations alert_evaluations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_evaluations
    ADD CONSTRAINT alert_evaluations_pkey PRIMARY KEY (at, watch);


--
-- Name: alert_history alert_history_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_history
    ADD CONSTRAINT alert_history_pkey PRIMARY KEY (alert_id, number);


--
-- Name: alert_notices alert_notices_once; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_notices
    ADD CONSTRAINT alert_notices_once UNIQUE (alert_id, transition, channel);


--
-- Name: alert_notices alert_notices_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_notices
    ADD CONSTRAINT alert_notices_pkey PRIMARY KEY (id);


--
-- Name: alert_pending alert_pending_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_pending
    ADD CONSTRAINT alert_pending_pkey PRIMARY KEY (rule, subject);


--
-- Name: alert_silences alert_silences_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_silences
    ADD CONSTRAINT alert_silences_pkey PRIMARY KEY (id);


--
-- Name: alert_values alert_values_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_values
    ADD CONSTRAINT alert_values_pkey PRIMARY KEY (alert_id, at);


--
-- Name: alerts alerts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);


--
-- Name: api_keys api_keys_key_hash_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);


--
-- Name: api_keys api_keys_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);


--
-- Name: check_counts check_counts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.check_counts
    ADD CONSTRAINT check_counts_pkey PRIMARY KEY (client_id, minute, shard);


--
-- Name: checks checks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.checks
    ADD CONSTRAINT checks_pkey PRIMARY KEY (request_id, number);


--
-- Name: clients clients_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_name_key UNIQUE (name);


--
-- Name: clients clients_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (id);


--
-- Name: do_not_send do_not_send_number_hash_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.do_not_send
    ADD CONSTRAINT do_not_send_number_hash_key UNIQUE (number_hash);


--
-- Name: do_not_send do_not_send_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.do_not_send
    ADD CONSTRAINT do_not_send_pkey PRIMARY KEY (id);


--
-- Name: erasures erasures_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (id);


--
-- Name: guard_addresses guard_addresses_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.guard_addresses
    ADD CONSTRAINT guard_addresses_pkey PRIMARY KEY (address_hash, hour);


--
-- Name: guard_decisions guard_decisions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.guard_decisions
    ADD CONSTRAINT guard_decisions_pkey PRIMARY KEY (minute, client_id, country, mode, reason);


--
-- Name: guard_exceptions guard_exceptions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.guard_exceptions
    ADD CONSTRAINT guard_exceptions_pkey PRIMARY KEY (subject);


--
-- Name: guard_tallies guard_tallies_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.guard_tallies
    ADD CONSTRAINT guard_tallies_pkey PRIMARY KEY (subject, hour);


--
-- Name: heartbeats heartbeats_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.heartbeats
    ADD CONSTRAINT heartbeats_pkey PRIMARY KEY (process);


--
-- Name: idempotency_keys idempotency_keys_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (client_id, key_hash);


--
-- Name: moves moves_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.moves
    ADD CONSTRAINT moves_pkey PRIMARY KEY (request_id, number);


--
-- Name: number_guesses number_guesses_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.number_guesses
    ADD CONSTRAINT number_guesses_pkey PRIMARY KEY (client_id, number_hash);


--
-- Name: otp_requests otp_requests_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.otp_requests
    ADD CONSTRAINT otp_requests_pkey PRIMARY KEY (id);


--
-- Name: provider_ids provider_ids_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.provider_ids
    ADD CONSTRAINT provider_ids_pkey PRIMARY KEY (base_url, application_name);


--
-- Name: receipts receipts_once; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_once UNIQUE NULLS NOT DISTINCT (message_id, status, done_at);


--
-- Name: receipts receipts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_pkey PRIMARY KEY (id);


--
-- Name: refusals refusals_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.refusals
    ADD CONSTRAINT refusals_pkey PRIMARY KEY (id);


--
-- Name: send_attempts send_attempts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.send_attempts
    ADD CONSTRAINT send_attempts_pkey PRIMARY KEY (request_id, number);


--
-- Name: send_counts send_counts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.send_counts
    ADD CONSTRAINT send_counts_pkey PRIMARY KEY (day, scope, subject);


--
-- Name: sending_stops sending_stops_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sending_stops
    ADD CONSTRAINT sending_stops_pkey PRIMARY KEY (id);


--
-- Name: stat_events stat_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stat_events
    ADD CONSTRAINT stat_events_pkey PRIMARY KEY (id);


--
-- Name: stats_hours stats_hours_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stats_hours
    ADD CONSTRAINT stats_hours_pkey PRIMARY KEY (at, client_id, country, channel, metric, label);


--
-- Name: stats_minutes stats_minutes_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stats_minutes
    ADD CONSTRAINT stats_minutes_pkey PRIMARY KEY (at, client_id, country, channel, metric, label);


--
-- Name: webhook_deliveries webhook_deliveries_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id);


--
-- Name: webhook_endpoints webhook_endpoints_client_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_client_id_key UNIQUE (client_id);


--
-- Name: webhook_endpoints webhook_endpoints_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id);


--
-- Name: alert_history_at_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_history_at_idx ON public.alert_history USING btree (at);


--
-- Name: alert_notices_created_at_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_notices_created_at_idx ON public.alert_notices USING btree (created_at);


--
-- Name: alert_notices_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_notices_due ON public.alert_notices USING btree (next_try_at) WHERE (next_try_at IS NOT NULL);


--
-- Name: alert_pending_evaluated_at_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_pending_evaluated_at_idx ON public.alert_pending USING btree (evaluated_at);


--
-- Name: alert_pending_number_hash_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_pending_number_hash_idx ON public.alert_pending USING btree (number_hash);


--
-- Name: alert_silences_number_hash_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_silences_number_hash_idx ON public.alert_silences USING btree (number_hash);


--
-- Name: alert_silences_until_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_silences_until_idx ON public.alert_silences USING btree (until);


--
-- Name: alert_values_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alert_values_at ON public.alert_values USING btree (at);


--
-- Name: alerts_closed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alerts_closed ON public.alerts USING btree (closed_at) WHERE (closed_at IS NOT NULL);


--
-- Name: alerts_number_hash_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alerts_number_hash_idx ON public.alerts USING btree (number_hash);


--
-- Name: alerts_one_open; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX alerts_one_open ON public.alerts USING btree (rule, subject) WHERE (state = 'open'::text);


--
-- Name: alerts_opened; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX alerts_opened ON public.alerts USING btree (opened_at, id);


--
-- Name: api_keys_client_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX api_keys_client_id_idx ON public.api_keys USING btree (client_id);


--
-- Name: check_counts_minute; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX check_counts_minute ON public.check_counts USING btree (minute);


--
-- Name: checks_wrong; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX checks_wrong ON public.checks USING btree (started_at) WHERE (verdict = 'wrong'::text);


--
-- Name: checks_wrong_of_address; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX checks_wrong_of_address ON public.checks USING btree (client_ip_hash, started_at) WHERE ((client_ip_hash IS NOT NULL) AND ((verdict IS NULL) OR (verdict = ANY (ARRAY['unknown'::text, 'wrong'::text]))));


--
-- Name: do_not_send_until_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX do_not_send_until_idx ON public.do_not_send USING btree (until);


--
-- Name: erasures_at_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX erasures_at_idx ON public.erasures USING btree (at);


--
-- Name: guard_addresses_hour; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX guard_addresses_hour ON public.guard_addresses USING btree (hour);


--
-- Name: guard_exceptions_until_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX guard_exceptions_until_idx ON public.guard_exceptions USING btree (until);


--
-- Name: guard_tallies_hour; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX guard_tallies_hour ON public.guard_tallies USING btree (hour);


--
-- Name: idempotency_keys_expiring; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idempotency_keys_expiring ON public.idempotency_keys USING btree (expires_at);


--
-- Name: idempotency_keys_request; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idempotency_keys_request ON public.idempotency_keys USING btree (request_id);


--
-- Name: number_guesses_number; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX number_guesses_number ON public.number_guesses USING btree (number_hash);


--
-- Name: number_guesses_updated; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX number_guesses_updated ON public.number_guesses USING btree (updated_at);


--
-- Name: otp_requests_checking; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_checking ON public.otp_requests USING btree (check_lease_until) WHERE (check_lease_until IS NOT NULL);


--
-- Name: otp_requests_claimed; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_claimed ON public.otp_requests USING btree (lease_until) WHERE (send_state = 'claimed'::text);


--
-- Name: otp_requests_created; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_created ON public.otp_requests USING btree (created_at, id);


--
-- Name: otp_requests_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_due ON public.otp_requests USING btree (next_attempt_at) WHERE (send_state = 'due'::text);


--
-- Name: otp_requests_due_deadline; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_due_deadline ON public.otp_requests USING btree (send_by) WHERE (send_state = 'due'::text);


--
-- Name: otp_requests_ended; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_ended ON public.otp_requests USING btree (finished_at) WHERE (finished_at IS NOT NULL);


--
-- Name: otp_requests_expiring; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_expiring ON public.otp_requests USING btree (expires_at) WHERE ((status = ANY (ARRAY['delivered'::text, 'queued'::text, 'sent'::text, 'undelivered'::text])) AND (expires_at IS NOT NULL));


--
-- Name: otp_requests_number; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_number ON public.otp_requests USING btree (number_hash, created_at);


--
-- Name: otp_requests_one_live; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX otp_requests_one_live ON public.otp_requests USING btree (client_id, number_hash, session_hash) NULLS NOT DISTINCT WHERE (status = ANY (ARRAY['delivered'::text, 'queued'::text, 'sent'::text, 'undelivered'::text]));


--
-- Name: otp_requests_sealed_with; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX otp_requests_sealed_with ON public.otp_requests USING btree (seal_key_id, id);


--
-- Name: receipts_request; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX receipts_request ON public.receipts USING btree (request_id);


--
-- Name: receipts_unmatched; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX receipts_unmatched ON public.receipts USING btree (received_at) WHERE (request_id IS NULL);


--
-- Name: refusals_created; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX refusals_created ON public.refusals USING btree (created_at);


--
-- Name: refusals_minute; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX refusals_minute ON public.refusals USING btree (client_id, number_hash, reason, minute) NULLS NOT DISTINCT WHERE (minute IS NOT NULL);


--
-- Name: refusals_number; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX refusals_number ON public.refusals USING btree (number_hash, created_at);


--
-- Name: send_attempts_external_message; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX send_attempts_external_message ON public.send_attempts USING btree (external_message_id) WHERE (external_message_id IS NOT NULL);


--
-- Name: sending_stops_in_force; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX sending_stops_in_force ON public.sending_stops USING btree (scope, subject) WHERE (resumed_at IS NULL);


--
-- Name: sending_stops_resumed_at_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sending_stops_resumed_at_idx ON public.sending_stops USING btree (resumed_at);


--
-- Name: webhook_deliveries_client; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX webhook_deliveries_client ON public.webhook_deliveries USING btree (client_id, number);


--
-- Name: webhook_deliveries_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX webhook_deliveries_due ON public.webhook_deliveries USING btree (client_id, next_try_at) WHERE (state = 'pending'::text);


--
-- Name: webhook_deliveries_left; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX webhook_deliveries_left ON public.webhook_deliveries USING btree (client_id, number) WHERE (state <> 'delivered'::text);


--
-- Name: webhook_deliveries_request; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX webhook_deliveries_request ON public.webhook_deliveries USING btree (request_id, number);


--
-- Name: checks checks_statistics; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER checks_statistics AFTER UPDATE ON public.checks FOR EACH ROW WHEN (((((new.verdict IS DISTINCT FROM old.verdict) OR (new.finished_at IS DISTINCT FROM old.finished_at)) OR (new.http_status IS DISTINCT FROM old.http_status)) OR (new.latency_ms IS DISTINCT FROM old.latency_ms))) EXECUTE FUNCTION public.checks_tell_statistics();


--
-- Name: idempotency_keys idempotency_keys_forget; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER idempotency_keys_forget BEFORE UPDATE ON public.idempotency_keys FOR EACH ROW WHEN (((new.request_id IS NULL) AND (old.request_id IS NOT NULL))) EXECUTE FUNCTION public.idempotency_keys_forget_answer();


--
-- Name: otp_requests otp_requests_guard; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER otp_requests_guard BEFORE UPDATE ON public.otp_requests FOR EACH ROW WHEN (((old.guard_block IS NOT NULL) AND ((new.status IS DISTINCT FROM old.status) OR (new.resend IS DISTINCT FROM old.resend)))) EXECUTE FUNCTION public.otp_requests_count_ends();


--
-- Name: otp_requests otp_requests_made_statistics; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER otp_requests_made_statistics AFTER INSERT ON public.otp_requests FOR EACH ROW WHEN ((NOT new.is_test)) EXECUTE FUNCTION public.otp_requests_tell_made();


--
-- Name: otp_requests otp_requests_moved_statistics; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER otp_requests_moved_statistics AFTER UPDATE ON public.otp_requests FOR EACH ROW WHEN (((new.status IS DISTINCT FROM old.status) AND (NOT new.is_test) AND (new.status <> ALL (ARRAY['queued'::text, 'delivered'::text, 'undelivered'::text])))) EXECUTE FUNCTION public.otp_requests_tell_moved();


--
-- Name: otp_requests otp_requests_moves; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER otp_requests_moves AFTER UPDATE ON public.otp_requests FOR EACH ROW WHEN (((new.status IS DISTINCT FROM old.status) OR (new.resend IS DISTINCT FROM old.resend))) EXECUTE FUNCTION public.otp_requests_note_moves();


--
-- Name: otp_requests otp_requests_webhooks; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER otp_requests_webhooks AFTER UPDATE ON public.otp_requests FOR EACH ROW WHEN ((new.status IS DISTINCT FROM old.status)) EXECUTE FUNCTION public.otp_requests_tell_client();


--
-- Name: refusals refusals_first_statistics; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER refusals_first_statistics AFTER INSERT ON public.refusals FOR EACH ROW WHEN ((NOT new.is_test)) EXECUTE FUNCTION public.refusals_tell_first();


--
-- Name: refusals refusals_more_statistics; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER refusals_more_statistics AFTER UPDATE ON public.refusals FOR EACH ROW WHEN (((new.count <> old.count) AND (NOT new.is_test))) EXECUTE FUNCTION public.refusals_tell_more();


--
-- Name: send_attempts send_attempts_statistics; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER send_attempts_statistics AFTER UPDATE ON public.send_attempts REFERENCING OLD TABLE AS old_attempts NEW TABLE AS new_attempts FOR EACH STATEMENT EXECUTE FUNCTION public.send_attempts_tell_statistics();


--
-- Name: alert_history alert_history_alert_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_history
    ADD CONSTRAINT alert_history_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES public.alerts(id) ON DELETE CASCADE;


--
-- Name: alert_notices alert_notices_alert_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_notices
    ADD CONSTRAINT alert_notices_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES public.alerts(id) ON DELETE CASCADE;


--
-- Name: alert_values alert_values_alert_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alert_values
    ADD CONSTRAINT alert_values_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES public.alerts(id) ON DELETE CASCADE;


--
-- Name: api_keys api_keys_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: api_keys api_keys_replaced_by_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_replaced_by_fkey FOREIGN KEY (replaced_by) REFERENCES public.api_keys(id);


--
-- Name: check_counts check_counts_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.check_counts
    ADD CONSTRAINT check_counts_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: checks checks_request_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.checks
    ADD CONSTRAINT checks_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.otp_requests(id) ON DELETE CASCADE;


--
-- Name: erasures erasures_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: guard_decisions guard_decisions_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.guard_decisions
    ADD CONSTRAINT guard_decisions_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: idempotency_keys idempotency_keys_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: idempotency_keys idempotency_keys_request_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.otp_requests(id) ON DELETE SET NULL;


--
-- Name: moves moves_request_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.moves
    ADD CONSTRAINT moves_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.otp_requests(id) ON DELETE CASCADE;


--
-- Name: number_guesses number_guesses_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.number_guesses
    ADD CONSTRAINT number_guesses_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: otp_requests otp_requests_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.otp_requests
    ADD CONSTRAINT otp_requests_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: receipts receipts_request_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.otp_requests(id) ON DELETE CASCADE;


--
-- Name: refusals refusals_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.refusals
    ADD CONSTRAINT refusals_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: send_attempts send_attempts_request_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.send_attempts
    ADD CONSTRAINT send_attempts_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.otp_requests(id) ON DELETE CASCADE;


--
-- Name: webhook_deliveries webhook_deliveries_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- Name: webhook_deliveries webhook_deliveries_request_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.otp_requests(id) ON DELETE CASCADE;


--
-- Name: webhook_endpoints webhook_endpoints_client_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id);


--
-- PostgreSQL database dump complete
--


