-- The tallies follow the outcome of requests, in the transaction of whatever statement ends them: verified
-- sends are credited, and counted sends that certainly failed are subtracted. Chances come before blocks and
-- addresses, as everywhere, so that two statements cannot deadlock.
CREATE OR REPLACE FUNCTION otp_requests_count_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := date_trunc('hour', NEW.created_at, 'UTC');
    good integer := (NEW.status = 'verified')::integer;
    -- 1 for what the newest send was counted as, if it certainly did not leave.
    back_known integer := 0;
    back_new integer := 0;
    back_refused integer := 0;
BEGIN
    -- The version before counted all sends alike, at acceptance.
    IF NEW.guard_counted = 0 AND NEW.guard_as IS NOT NULL THEN
        NEW.guard_counted := NEW.sends;
        NEW.guard_known := CASE WHEN NEW.guard_as = 'known' THEN NEW.sends ELSE 0 END;
        NEW.guard_new := CASE WHEN NEW.guard_as = 'new' THEN NEW.sends ELSE 0 END;
        NEW.guard_refused := CASE WHEN NEW.guard_as = 'refused' THEN NEW.sends ELSE 0 END;
    END IF;
    IF NEW.guard_counted = NEW.sends AND NEW.unknowns = 0 AND NEW.send_state = 'idle'
       AND (OLD.status = 'queued' OR (OLD.resend = 'pending' AND NEW.resend = 'failed')) THEN
        back_known := (NEW.guard_as = 'known' AND NEW.guard_known > 0)::integer;
        back_new := (NEW.guard_as = 'new' AND NEW.guard_new > 0)::integer;
        back_refused := (NEW.guard_as = 'refused' AND NEW.guard_refused > 0)::integer;
        NEW.guard_known := NEW.guard_known - back_known;
        NEW.guard_new := NEW.guard_new - back_new;
        NEW.guard_refused := NEW.guard_refused - back_refused;
    END IF;
    IF back_new + good * NEW.guard_new > 0 THEN
        UPDATE guard_tallies
        SET sent = greatest(sent - back_new, verified),
            verified = least(greatest(sent - back_new, verified), verified + good * NEW.guard_new)
        WHERE subject = '*' AND hour = at;
        UPDATE guard_tallies
        SET sent = greatest(sent - back_new, verified),
            verified = least(greatest(sent - back_new, verified), verified + good * NEW.guard_new)
        WHERE subject = coalesce(NEW.country, 'ZZ') AND hour = at;
    END IF;
    IF back_known + back_new + back_refused
       + good * (NEW.guard_known + NEW.guard_new + NEW.guard_refused) > 0 THEN
        UPDATE guard_tallies
        SET sent = greatest(sent - back_known - back_new, verified) + good * NEW.guard_refused,
            verified = least(greatest(sent - back_known - back_new, verified),
                             verified + good * (NEW.guard_known + NEW.guard_new))
                       + good * NEW.guard_refused,
            shadowed = greatest(shadowed - back_refused, 0),
            shadowed_verified = shadowed_verified + good * NEW.guard_refused
        WHERE subject = NEW.guard_block AND hour = at;
    END IF;
    IF good * NEW.guard_new > 0 THEN
        UPDATE guard_addresses SET verified = verified + 1
        WHERE address_hash = NEW.client_ip_hash AND hour = at;
    END IF;
    IF NEW.finished_at IS NOT NULL THEN
        NEW.guard_block := NULL;
    END IF;
    RETURN NEW;
END
$$
