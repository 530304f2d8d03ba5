CREATE TRIGGER api_keys_access AFTER INSERT OR DELETE OR UPDATE OF
client_id, prefix, key_hash, scopes, note, created_at, expires_at, revoked_at, replaced_by ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION access_version_raise()
