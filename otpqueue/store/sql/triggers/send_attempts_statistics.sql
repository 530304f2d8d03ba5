CREATE TRIGGER send_attempts_statistics AFTER UPDATE ON send_attempts
REFERENCING OLD TABLE AS old_attempts NEW TABLE AS new_attempts FOR EACH STATEMENT
EXECUTE FUNCTION send_attempts_tell_statistics()
