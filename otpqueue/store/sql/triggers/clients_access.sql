CREATE TRIGGER clients_access AFTER INSERT OR DELETE OR UPDATE OF name, settings ON clients
FOR EACH STATEMENT EXECUTE FUNCTION access_version_raise()
