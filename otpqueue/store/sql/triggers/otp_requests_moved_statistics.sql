CREATE TRIGGER otp_requests_moved_statistics AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status AND NOT NEW.is_test
      AND NEW.status NOT IN ('queued', 'delivered', 'undelivered'))
EXECUTE FUNCTION otp_requests_tell_moved()
