-- The messages among these with a delivery report that arrived before their attempt was known.
--
-- `IS TRUE` keeps the planner off the index of all unmatched reports. Reports on messages of other senders can
-- make it large.
CREATE OR REPLACE FUNCTION unmatched_receipts(message_ids text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT r.message_id FROM receipts AS r
    WHERE r.message_id = ANY (message_ids) AND (r.request_id IS NULL) IS TRUE;
END
$$
