-- The condition skips the function for claims, sends and delivery reports, which settle nothing.
CREATE TRIGGER otp_requests_guard BEFORE UPDATE ON otp_requests FOR EACH ROW
WHEN (OLD.guard_block IS NOT NULL
      AND (NEW.finished_at IS NOT NULL OR (OLD.resend = 'pending' AND NEW.resend = 'failed')))
EXECUTE FUNCTION otp_requests_count_ends()
