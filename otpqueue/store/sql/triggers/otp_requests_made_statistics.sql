CREATE TRIGGER otp_requests_made_statistics AFTER INSERT ON otp_requests FOR EACH ROW
WHEN (NOT NEW.is_test)
EXECUTE FUNCTION otp_requests_tell_made()
