-- The scopes for which sending is stopped: all, these clients, these countries. A client's subject that is not
-- a UUID is ignored.
CREATE OR REPLACE FUNCTION stops_in_force(OUT everything boolean, OUT clients uuid[], OUT countries text[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(bool_or(s.scope = 'all'), false),
           coalesce(
               array_agg(s.subject::uuid) FILTER (
                   WHERE s.scope = 'client' AND s.subject ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
               ), '{}'
           ),
           coalesce(array_agg(s.subject) FILTER (WHERE s.scope = 'country'), '{}')
    INTO everything, clients, countries
    FROM sending_stops AS s
    WHERE s.resumed_at IS NULL;
END
$$
