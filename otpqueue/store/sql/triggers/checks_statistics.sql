CREATE TRIGGER checks_statistics AFTER UPDATE ON checks FOR EACH ROW
WHEN ((NEW.verdict, NEW.finished_at, NEW.http_status, NEW.latency_ms)
      IS DISTINCT FROM (OLD.verdict, OLD.finished_at, OLD.http_status, OLD.latency_ms))
EXECUTE FUNCTION checks_tell_statistics()
