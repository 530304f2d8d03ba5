CREATE TRIGGER refusals_first_statistics AFTER INSERT ON refusals FOR EACH ROW
WHEN (NOT NEW.is_test)
EXECUTE FUNCTION refusals_tell_first()
