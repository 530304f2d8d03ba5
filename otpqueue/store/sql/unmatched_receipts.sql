-- Those of these messages that have a delivery report which came before any attempt was known for it.
--
-- `IS TRUE` keeps out the index of all unmatched reports, which may be many: of messages that are not ours.
CREATE OR REPLACE FUNCTION unmatched_receipts(message_ids text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT r.message_id FROM receipts AS r
    WHERE r.message_id = ANY (message_ids) AND (r.request_id IS NULL) IS TRUE;
END
$$
