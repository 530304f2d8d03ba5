CREATE TRIGGER idempotency_keys_forget BEFORE UPDATE ON idempotency_keys FOR EACH ROW
WHEN (NEW.request_id IS NULL AND OLD.request_id IS NOT NULL)
EXECUTE FUNCTION idempotency_keys_forget_answer()
