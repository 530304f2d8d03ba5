-- Any statement that moves a request enqueues the client's event, in the same transaction. The subscription is
-- checked first, since beginning an INSERT costs more than finding no subscriber. A delivery behind an earlier
-- one of its request waits for that one's next try.
CREATE OR REPLACE FUNCTION otp_requests_tell_client() RETURNS trigger LANGUAGE plpgsql AS $$
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
$$
