CREATE TRIGGER otp_requests_webhooks AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status)
EXECUTE FUNCTION otp_requests_tell_client()
