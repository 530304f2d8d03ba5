-- The condition skips the function for claims and checks, which cause no event.
CREATE TRIGGER otp_requests_moves AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status OR NEW.resend IS DISTINCT FROM OLD.resend)
EXECUTE FUNCTION otp_requests_note_moves()
