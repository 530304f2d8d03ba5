CREATE TRIGGER refusals_more_statistics AFTER UPDATE ON refusals FOR EACH ROW
WHEN (NEW.count <> OLD.count AND NOT NEW.is_test)
EXECUTE FUNCTION refusals_tell_more()
